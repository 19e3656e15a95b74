"""Cross-entropy behind the interface of the other classification losses."""

from collections.abc import Sequence

from torch import Tensor

from deitlt.losses.classification import ClassificationLoss


class CrossEntropyLoss(ClassificationLoss):
    """Cross-entropy with class ids or class probabilities.

    Args:
        counts: training images of each class; taken so that all losses are built alike, and not used.
        class_weights: [C] or None.
    """

    def __init__(self, counts: Sequence[int] | None = None, class_weights: Tensor | None = None) -> None:
        super().__init__(class_weights)

    def adjusted(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The logits, [B, C], as they are."""
        return logits
