"""The label-distribution-aware margin loss."""

from collections.abc import Sequence

from torch import Tensor

from deitlt.errors import ConfigError
from deitlt.losses.class_counts import count_tensor
from deitlt.losses.classification import ClassificationLoss, class_probabilities


def ldam_margins(counts: Tensor, max_margin: float = 0.5) -> Tensor:
    """Margins ``D_c = max_margin * n_c^-1/4 / max_j n_j^-1/4``, [C]: the rarest class has the largest.

    Args:
        counts: [C], images of each class, in a floating type.
        max_margin: the rarest class's margin.
    """
    margins = counts**-0.25
    return margins * (max_margin / margins.max())


class LDAMLoss(ClassificationLoss):
    """Cross-entropy of ``scale * (cos - y * D)``: the true class must win by its margin.

    Cao et al., "Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss", NeurIPS 2019,
    eq. 10 to 13. The logits are cosines, those of a classifier with normalised features and weights.
    With class probabilities y, class c has ``y_c * D_c`` taken off: all of its margin where y is one-hot.

    Args:
        counts: training images of each class.
        max_margin: the rarest class's margin.
        scale: the factor on cosines.
        class_weights: [C] or None.

    Raises:
        ConfigError: a negative margin, or a scale that is not above 0.
        DataError: a class has no image.
    """

    counts: Tensor

    def __init__(
        self,
        counts: Sequence[int],
        max_margin: float = 0.5,
        scale: float = 30.0,
        class_weights: Tensor | None = None,
    ) -> None:
        super().__init__(class_weights)
        if max_margin < 0:
            raise ConfigError(f"max_margin={max_margin} must be 0 or more: type max_margin=0.5")
        if scale <= 0:
            raise ConfigError(f"scale={scale} must be above 0: type scale=30")
        self.max_margin, self.scale = max_margin, scale
        self.register_buffer("counts", count_tensor(counts), persistent=False)

    def adjusted(self, logits: Tensor, targets: Tensor) -> Tensor:
        """``scale * (cos - y * D)``, [B, C], of cosines [B, C]."""
        margins = ldam_margins(self.counts.to(logits), self.max_margin)
        return self.scale * (logits - class_probabilities(targets, logits) * margins)
