"""The balanced-softmax loss."""

from collections.abc import Sequence

from torch import Tensor

from deitlt.losses.class_counts import count_tensor
from deitlt.losses.classification import ClassificationLoss


class BalancedSoftmaxLoss(ClassificationLoss):
    """Cross-entropy of ``logits + log n``.

    Ren et al., "Balanced Meta-Softmax for Long-Tailed Visual Recognition", NeurIPS 2020, eq. 4.

    Args:
        counts: training images of each class.
        class_weights: [C] or None.

    Raises:
        DataError: a class has no image.
    """

    counts: Tensor

    def __init__(self, counts: Sequence[int], class_weights: Tensor | None = None) -> None:
        super().__init__(class_weights)
        self.register_buffer("counts", count_tensor(counts), persistent=False)

    def adjusted(self, logits: Tensor, targets: Tensor) -> Tensor:
        """``logits + log n``, [B, C]."""
        return logits + self.counts.to(logits).log()
