"""Parametric contrastive learning: supervised contrast in which each class has a learnable centre, too."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from deitlt.losses.classification import Reweightable, at_least_float32, count_tensor, log_prior


def paco_terms(
    features: Tensor,
    labels: Tensor,
    centres: Tensor,
    alpha: float = 0.01,
    beta: float = 1.0,
    gamma: float = 1.0,
    temperature: float = 0.05,
) -> Tensor:
    """The loss of each query i: ``Z_i - (beta s_iy + alpha sum_p z_ip) / (beta + alpha |P_i|)``.

    ``z_ij = f_i f_j / T``, s the similarities to the centres, P_i the rows of the query's class but itself,
    and ``Z_i = log(sum_c exp s_ic + gamma sum_{j != i} exp z_ij)``, without the small constants that the
    published code adds within its logarithms.

    Args:
        features: [2B+K, D], unit rows: queries, their keys, the queue.
        labels: [2B+K] class ids; a negative one marks a row that is neither a positive nor a negative.
        centres: [B, C], each query's adjusted similarity to the class centres.
        alpha: weight of a positive row.
        beta: weight of the query's own centre.
        gamma: weight of the rows in the normaliser.
        temperature: T, of the rows.

    Returns:
        [B], one term a query.
    """
    batch = len(centres)
    contrast = features[:batch] @ features.T / temperature
    left_out = (labels < 0) | torch.eye(batch, len(labels), dtype=torch.bool, device=labels.device)
    positive = (labels == labels[:batch, None]) & ~left_out
    log_gamma = math.log(gamma) if gamma > 0 else -math.inf
    rows = contrast.masked_fill(left_out, -math.inf).logsumexp(dim=1)
    normaliser = torch.logaddexp(centres.logsumexp(dim=1), rows + log_gamma)
    own_centre = centres.gather(1, labels[:batch, None]).squeeze(1)
    attraction = beta * own_centre + alpha * contrast.masked_fill(~positive, 0.0).sum(dim=1)
    return normaliser - attraction / (beta + alpha * positive.sum(dim=1, dtype=contrast.dtype))


class PaCoLoss(Reweightable):
    """The parametric contrastive loss of a batch of queries, their keys and a queue of earlier keys.

    Cui et al., "Parametric Contrastive Learning", ICCV 2021, eq. 5 to 7: the centres' similarities carry the
    log of the class's share, as in logit adjustment, so that rare classes keep a margin.

    Args:
        counts: training images of each class.
        alpha: weight of a positive row beside the class centre's.
        beta: weight of the class centre.
        gamma: weight of the rows in the normaliser; alpha = gamma = 0 is logit adjustment.
        sup_temperature: temperature of the similarities to the centres.
        temperature: temperature of the similarities among rows.
        class_weights: [C] or None: queries are weighted by their class, and the mean by the batch's weights.

    Raises:
        DataError: a class has no image.
    """

    counts: Tensor

    def __init__(
        self,
        counts: Sequence[int],
        alpha: float = 0.01,
        beta: float = 1.0,
        gamma: float = 1.0,
        sup_temperature: float = 1.0,
        temperature: float = 0.05,
        class_weights: Tensor | None = None,
    ) -> None:
        super().__init__(class_weights)
        self.alpha, self.beta, self.gamma = alpha, beta, gamma
        self.sup_temperature, self.temperature = sup_temperature, temperature
        self.register_buffer("counts", count_tensor(counts), persistent=False)

    def forward(self, features: Tensor, labels: Tensor, sup_logits: Tensor) -> Tensor:
        """The mean loss of the queries.

        Args:
            features: [2B+K, D], unit rows: queries, their keys, the queue.
            labels: [2B+K] class ids, negative for rows that do not count.
            sup_logits: [B, C], the queries' logits from the class centres.

        Returns:
            A scalar in at least float32, under autocast, too: at T = .05 half precision has no digits left.
        """
        features, logits = at_least_float32(features), at_least_float32(sup_logits)
        centres = (logits + log_prior(self.counts.to(logits))) / self.sup_temperature
        with torch.autocast(features.device.type, enabled=False):
            terms = paco_terms(features, labels, centres, self.alpha, self.beta, self.gamma, self.temperature)
        if self.class_weights is None:
            return terms.mean()
        weights = self.class_weights.to(terms)[labels[: len(terms)]]
        return (weights * terms).sum() / weights.sum()
