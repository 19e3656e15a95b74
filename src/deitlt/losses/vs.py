"""The vector-scaling loss."""

from collections.abc import Sequence

from torch import Tensor

from deitlt.losses.class_counts import count_tensor
from deitlt.losses.classification import ClassificationLoss
from deitlt.losses.logit_adjustment import log_prior


def vs_scales(counts: Tensor, gamma: float = 0.3) -> Tensor:
    """The divisors ``(n_max / n_c) ** gamma`` of the logits, [C]: 1 for the largest class.

    Args:
        counts: [C], images of each class, in a floating type.
        gamma: 0 scales nothing.
    """
    return (counts.max() / counts) ** gamma


class VSLoss(ClassificationLoss):
    """Cross-entropy of ``logits / (n_max / n_c) ** gamma + tau * log prior``.

    Kini et al., "Label-Imbalanced and Group-Sensitive Classification under Overparameterization",
    NeurIPS 2021, eq. 2. gamma = 0 is logit adjustment.

    Args:
        counts: training images of each class.
        gamma: strength of the multiplicative part.
        tau: strength of the additive part.
        class_weights: [C] or None.

    Raises:
        DataError: a class has no image.
    """

    counts: Tensor

    def __init__(
        self,
        counts: Sequence[int],
        gamma: float = 0.3,
        tau: float = 1.0,
        class_weights: Tensor | None = None,
    ) -> None:
        super().__init__(class_weights)
        self.gamma, self.tau = gamma, tau
        self.register_buffer("counts", count_tensor(counts), persistent=False)

    def adjusted(self, logits: Tensor, targets: Tensor) -> Tensor:
        """``logits / scales + tau * log prior``, [B, C]."""
        counts = self.counts.to(logits)
        return logits / vs_scales(counts, self.gamma) + self.tau * log_prior(counts)
