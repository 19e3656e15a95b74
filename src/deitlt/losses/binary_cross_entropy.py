"""Binary cross-entropy: each class is a question of its own."""

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional as F

from deitlt.errors import ConfigError
from deitlt.losses.classification import ClassificationLoss, at_least_float32, class_probabilities


class BinaryCrossEntropyLoss(ClassificationLoss):
    """Binary cross-entropy of every logit, averaged over classes and images, as DeiT-III trains.

    ``l_i = 1/C sum_c -(y_ic log s(z_ic) + (1 - y_ic) log(1 - s(z_ic)))``, s the sigmoid; Touvron et al.,
    "DeiT III: Revenge of the ViT", ECCV 2022, section 3.2, after Wightman et al., "ResNet strikes back", 2021.

    Class weights weigh images by what is on them, as those of the class-balanced loss do (Cui et al., CVPR 2019,
    section 4.3): ``sum_i (w . y_i) l_i / sum_i w . y_i``. Weights on the C questions would mostly weigh the
    answer "no", which rare classes hear too often already.

    Args:
        counts: training images of each class; taken so that all losses are built alike, and not used.
        class_weights: [C] or None.
        threshold: targets above it count as 1 and others as 0, so that with 0 both classes of a mixed image are
            right (DeiT-III); None leaves soft targets soft. Label smoothing lifts every target above 0.
        sum_classes: add the classes up, which makes the loss C times as large: about as large as cross-entropy,
            as it should be beside a distillation loss.

    Raises:
        ConfigError: a threshold that no target, or every one, is above.
    """

    def __init__(
        self,
        counts: Sequence[int] | None = None,
        class_weights: Tensor | None = None,
        threshold: float | None = None,
        sum_classes: bool = False,
    ) -> None:
        super().__init__(class_weights)
        if threshold is not None and not 0 <= threshold < 1:
            raise ConfigError(
                f"student.loss.threshold={threshold} must be at least 0 and below 1: type student.loss.threshold=0, "
                "or =null for soft targets"
            )
        self.threshold, self.sum_classes = threshold, sum_classes

    def adjusted(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The logits, [B, C], as they are."""
        return logits

    def weighted(self, logits: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
        """The loss under other class weights than its own; arguments as in `forward`, weights [C] or None."""
        logits = at_least_float32(logits)
        soft = class_probabilities(targets, logits)
        answers = soft if self.threshold is None else (soft > self.threshold).to(logits.dtype)
        losses = F.binary_cross_entropy_with_logits(logits, answers, reduction="none")
        images = losses.sum(dim=1) if self.sum_classes else losses.mean(dim=1)
        if weights is None:
            return images.mean()
        shares = soft @ weights.to(soft)
        return (shares * images).sum() / shares.sum()
