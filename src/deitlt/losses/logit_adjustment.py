"""The logit-adjusted loss."""

from collections.abc import Sequence

from torch import Tensor

from deitlt.losses.class_counts import count_tensor
from deitlt.losses.classification import ClassificationLoss


def log_prior(counts: Tensor) -> Tensor:
    """``log(n_c / sum_j n_j)``, [C], of the images of each class, [C], in a floating type."""
    return (counts / counts.sum()).log()


class LogitAdjustedLoss(ClassificationLoss):
    """Cross-entropy of ``logits + tau * log prior``.

    Menon et al., "Long-Tail Learning via Logit Adjustment", ICLR 2021, eq. 10.

    Args:
        counts: training images of each class.
        tau: strength of the adjustment; 1 is consistent for the balanced error.
        class_weights: [C] or None.

    Raises:
        DataError: a class has no image.
    """

    counts: Tensor

    def __init__(self, counts: Sequence[int], tau: float = 1.0, class_weights: Tensor | None = None) -> None:
        super().__init__(class_weights)
        self.tau = tau
        self.register_buffer("counts", count_tensor(counts), persistent=False)

    def adjusted(self, logits: Tensor, targets: Tensor) -> Tensor:
        """``logits + tau * log prior``, [B, C]."""
        return logits + self.tau * log_prior(self.counts.to(logits))
