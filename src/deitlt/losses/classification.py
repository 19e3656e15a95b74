"""What all classification losses share: class weights, targets of both kinds, the weighted mean."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def at_least_float32(logits: Tensor) -> Tensor:
    """The logits in float32, or in float64 if they are: half precision has no digits left for a loss."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def class_probabilities(targets: Tensor, logits: Tensor) -> Tensor:
    """Targets as class probabilities, [B, C], in the logits' type.

    Args:
        targets: [B] class ids or [B, C] class probabilities.
        logits: [B, C].
    """
    if targets.ndim == 1:
        # At once in the logits' type, where `F.one_hot` is eight bytes a class first.
        return logits.detach().new_zeros(logits.shape).scatter_(1, targets.long()[:, None], 1.0)
    return targets.to(logits.dtype)


def weighted_cross_entropy(logits: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """Cross-entropy, weighted by class; the mean is divided by the weights of the batch's own targets.

    ``sum_i sum_c w_c y_ic (-log p_ic) / sum_i sum_c w_c y_ic``: for class ids the same as torch's weighted
    mean. With class probabilities torch divides by B, so that the loss would grow with the batch's weights.

    Args:
        logits: [B, C].
        targets: [B] class ids or [B, C] class probabilities.
        weights: [C], or None for the plain mean.

    Returns:
        The loss, a scalar in at least float32.
    """
    logits = at_least_float32(logits)
    weights = None if weights is None else weights.to(logits)
    if targets.ndim == 1:
        return F.cross_entropy(logits, targets.long(), weights)
    targets = targets.to(logits.dtype)
    if weights is None:
        return F.cross_entropy(logits, targets)
    return F.cross_entropy(logits, targets, weights, reduction="sum") / (targets @ weights).sum()


class Reweightable(nn.Module):
    """A loss whose class weights may be set and taken away while training goes on.

    ``class_weights`` ([C] or None) goes where the loss goes, but is no part of the `state_dict`: deferred
    re-weighting sets it from the epoch alone.
    """

    class_weights: Tensor | None

    def __init__(self, class_weights: Tensor | None = None) -> None:
        super().__init__()
        self.register_buffer("class_weights", class_weights, persistent=False)

    def reweight(self, weights: Tensor | None) -> None:
        """Weigh the classes from now on, or no more.

        Args:
            weights: [C], best on the loss's device (else each call copies them), or None.
        """
        self.class_weights = weights


class ClassificationLoss(Reweightable, ABC):
    """Weighted cross-entropy of adjusted logits; a subclass says how its logits are adjusted."""

    @abstractmethod
    def adjusted(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The logits, [B, C], that the cross-entropy is taken of.

        Args:
            logits: [B, C], in at least float32.
            targets: [B] class ids or [B, C] class probabilities.
        """

    def weighted(self, logits: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
        """The loss under other class weights than its own; arguments as in `forward`, weights [C] or None."""
        return weighted_cross_entropy(self.adjusted(at_least_float32(logits), targets), targets, weights)

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The mean loss of a batch.

        Args:
            logits: [B, C].
            targets: [B] class ids or [B, C] class probabilities.

        Returns:
            A scalar in at least float32.
        """
        return self.weighted(logits, targets, self.class_weights)
