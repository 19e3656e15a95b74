"""Classification losses for long tails: cross-entropy, BCE, LDAM, VS, balanced softmax, logit adjustment, weights."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deitlt.errors import ConfigError, DataError


def at_least_float32(logits: Tensor) -> Tensor:
    """The logits in float32, or in float64 if they already are: half precision is too coarse for a loss."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def class_probabilities(targets: Tensor, logits: Tensor) -> Tensor:
    """Targets, [B] class ids or [B, C] class probabilities, as probabilities [B, C] in the logits' dtype."""
    if targets.ndim == 1:
        # Directly in the logits' dtype; `F.one_hot` would allocate int64 first.
        return logits.detach().new_zeros(logits.shape).scatter_(1, targets.long()[:, None], 1.0)
    return targets.to(logits.dtype)


def count_tensor(counts: Sequence[int] | Tensor) -> Tensor:
    """Training images of each class as an int64 tensor, [C].

    Raises:
        DataError: a class has no image, so its weight, margin or prior is undefined.
    """
    tensor = torch.as_tensor(counts, dtype=torch.int64)
    empty = torch.nonzero(tensor < 1).flatten().tolist()
    if empty:
        raise DataError(
            f"class {empty[0]} has {int(tensor[empty[0]])} training images, but a loss made for the long "
            "tail needs 1 or more of each class: add images or leave the class out"
        )
    return tensor


def effective_number_weights(
    counts: Sequence[int] | Tensor, beta: float = 0.9999, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Class weights [C], ``w_c = (1 - beta) / (1 - beta ** n_c)``, normalised to the sum C.

    Cui et al., "Class-Balanced Loss Based on Effective Number of Samples", CVPR 2019, eq. 2 and 3.

    Args:
        counts: n_c, training images of each class.
        beta: in [0, 1); 0 gives equal weights, beta towards 1 gives 1 / n_c.
        dtype: of the result; the weights are computed in float64.

    Raises:
        ConfigError: beta outside [0, 1).
        DataError: a class has no image.
    """
    if not 0 <= beta < 1:
        raise ConfigError(f"beta={beta} must be at least 0 and below 1: type beta=0.9999")
    numbers = count_tensor(counts).cpu().double()
    weights = (1 - beta) / (1 - beta**numbers)
    return (weights * (len(weights) / weights.sum())).to(dtype)


def weighted_cross_entropy(logits: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """Cross-entropy, a scalar, weighted by class and divided by the weights of the batch's own targets.

    ``sum_i sum_c w_c y_ic (-log p_ic) / sum_i sum_c w_c y_ic``: for class ids the same as torch's weighted mean.
    For class probabilities torch, and with it the authors' code, divides by B. Then a class id and its one-hot row have
    different losses, and the loss, its share beside an unweighted token's, and the length of a step follow the weights
    that a batch happens to have: weights sum to C over the classes, not over the images, so that a batch of a long
    tail, mostly frequent classes, would hardly count. Divided by its weights it is a mean, whatever the targets.

    Args:
        logits: [B, C].
        targets: [B] class ids or [B, C] class probabilities.
        weights: [C], or None for the plain mean.
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
    """A loss whose ``class_weights`` ([C] or None) can be set during training, as deferred re-weighting does.

    The weights follow the loss to its device but are not in its `state_dict`: they are a function of the epoch.
    """

    class_weights: Tensor | None

    def __init__(self, class_weights: Tensor | None = None) -> None:
        super().__init__()
        self.register_buffer("class_weights", class_weights, persistent=False)

    def reweight(self, weights: Tensor | None) -> None:
        """Set the class weights, [C], best on the loss's device (else each call copies them); None removes them."""
        self.class_weights = weights


class ClassificationLoss(Reweightable, ABC):
    """Weighted cross-entropy of adjusted logits. A subclass implements `adjusted`; few need their own `weighted`."""

    @abstractmethod
    def adjusted(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The logits [B, C] that enter the cross-entropy; arguments as in `forward`, in at least float32."""

    def weighted(self, logits: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
        """The loss under other class weights, [C] or None, than its own; other arguments as in `forward`."""
        return weighted_cross_entropy(self.adjusted(at_least_float32(logits), targets), targets, weights)

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The mean loss of a batch, a scalar in at least float32.

        Args:
            logits: [B, C].
            targets: [B] class ids or [B, C] class probabilities.
        """
        return self.weighted(logits, targets, self.class_weights)


class AnyLoss(ClassificationLoss):
    """A loss of anyone's under class weights.

    Args:
        loss: logits [B, C] and targets, [B] class ids or [B, C] class probabilities -> a value for each image [B], or
            their mean, which cannot be weighted.
    """

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.loss = loss

    def adjusted(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The logits, [B, C], unchanged."""
        return logits

    def weighted(self, logits: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
        """The mean of the values, each of the weight of its target, divided by these weights."""
        logits = at_least_float32(logits)
        values: Tensor = self.loss(logits, targets)
        if values.shape not in ((), targets.shape[:1]):
            raise ConfigError(
                f"{type(self.loss).__name__} answers {tuple(values.shape)} to {len(targets)} images; have it return a "
                "value for each image, [B], or their mean."
            )
        if weights is None:
            return values.mean()
        if values.ndim == 0:
            raise ConfigError(
                f"{type(self.loss).__name__} returns one number, which no class weights can weigh; have it return a "
                "value for each image, [B], or type drw=null of its stage."
            )
        shares = class_probabilities(targets, logits) @ weights.to(logits)
        return (values * shares).sum() / shares.sum()


class CrossEntropyLoss(ClassificationLoss):
    """Cross-entropy with class ids or class probabilities.

    Args:
        counts: not used; every loss is built with the same arguments.
        class_weights: [C] or None.
    """

    def __init__(self, counts: Sequence[int] | None = None, class_weights: Tensor | None = None) -> None:
        super().__init__(class_weights)

    def adjusted(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The logits, [B, C], unchanged."""
        return logits


class BinaryCrossEntropyLoss(CrossEntropyLoss):
    """Binary cross-entropy of every logit, averaged over classes and images, as DeiT-III trains.

    ``l_i = 1/C sum_c -(y_ic log s(z_ic) + (1 - y_ic) log(1 - s(z_ic)))``, s the sigmoid; Touvron et al.,
    "DeiT III: Revenge of the ViT", ECCV 2022, section 3.2, after Wightman et al., "ResNet strikes back", 2021.

    Class weights weigh images by their targets, as in the class-balanced loss (Cui et al., CVPR 2019, section 4.3):
    ``sum_i (w . y_i) l_i / sum_i w . y_i``. Weights on the C binary terms would mostly weigh the negatives.

    Args:
        counts: not used; every loss is built with the same arguments.
        class_weights: [C] or None.
        threshold: targets above it count as 1 and others as 0, so with 0 both classes of a mixed image are positive
            (DeiT-III); None keeps soft targets. Label smoothing lifts every target above 0.
        sum_classes: sum over the classes instead of the mean, which makes the loss C times as large: about the size
            of cross-entropy, as it should be beside a distillation loss.

    Raises:
        ConfigError: a threshold outside [0, 1).
    """

    def __init__(
        self,
        counts: Sequence[int] | None = None,
        class_weights: Tensor | None = None,
        threshold: float | None = None,
        sum_classes: bool = False,
    ) -> None:
        super().__init__(counts, class_weights)
        if threshold is not None and not 0 <= threshold < 1:
            raise ConfigError(
                f"student.loss.threshold={threshold} must be at least 0 and below 1: type student.loss.threshold=0, "
                "or =null for soft targets"
            )
        self.threshold, self.sum_classes = threshold, sum_classes

    def weighted(self, logits: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
        """The loss under other class weights, [C] or None, than its own; other arguments as in `forward`."""
        logits = at_least_float32(logits)
        soft = class_probabilities(targets, logits)
        binary = soft if self.threshold is None else (soft > self.threshold).to(logits.dtype)
        losses = F.binary_cross_entropy_with_logits(logits, binary, reduction="none")
        images = losses.sum(dim=1) if self.sum_classes else losses.mean(dim=1)
        if weights is None:
            return images.mean()
        shares = soft @ weights.to(soft)
        return (shares * images).sum() / shares.sum()


class CountedLoss(ClassificationLoss):
    """A classification loss that depends on the class counts, kept as an exact int64 buffer.

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


class BalancedSoftmaxLoss(CountedLoss):
    """Cross-entropy of ``logits + log n``; arguments as in `CountedLoss`.

    Ren et al., "Balanced Meta-Softmax for Long-Tailed Visual Recognition", NeurIPS 2020, eq. 4.
    """

    def adjusted(self, logits: Tensor, targets: Tensor) -> Tensor:
        """``logits + log n``, [B, C]."""
        return logits + self.counts.to(logits).log()


def log_prior(counts: Tensor) -> Tensor:
    """``log(n_c / sum_j n_j)``, [C], of counts [C] in a floating dtype."""
    return (counts / counts.sum()).log()


class LogitAdjustedLoss(CountedLoss):
    """Cross-entropy of ``logits + tau * log prior``.

    Menon et al., "Long-Tail Learning via Logit Adjustment", ICLR 2021, eq. 10.

    Args:
        counts: training images of each class.
        tau: strength of the adjustment; 1 is consistent for the balanced error.
        class_weights: [C] or None.

    Raises:
        DataError: a class has no image.
    """

    def __init__(self, counts: Sequence[int], tau: float = 1.0, class_weights: Tensor | None = None) -> None:
        super().__init__(counts, class_weights)
        self.tau = tau

    def adjusted(self, logits: Tensor, targets: Tensor) -> Tensor:
        """``logits + tau * log prior``, [B, C]."""
        return logits + self.tau * log_prior(self.counts.to(logits))


def vs_scales(counts: Tensor, gamma: float = 0.3) -> Tensor:
    """The divisors ``(n_max / n_c) ** gamma`` of the logits, [C], of counts [C] in a floating dtype."""
    return (counts.max() / counts) ** gamma


class VSLoss(CountedLoss):
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

    def __init__(
        self, counts: Sequence[int], gamma: float = 0.3, tau: float = 1.0, class_weights: Tensor | None = None
    ) -> None:
        super().__init__(counts, class_weights)
        self.gamma, self.tau = gamma, tau

    def adjusted(self, logits: Tensor, targets: Tensor) -> Tensor:
        """``logits / scales + tau * log prior``, [B, C]."""
        counts = self.counts.to(logits)
        return logits / vs_scales(counts, self.gamma) + self.tau * log_prior(counts)


def ldam_margins(counts: Tensor, max_margin: float = 0.5) -> Tensor:
    """Margins ``D_c = max_margin * n_c^-1/4 / max_j n_j^-1/4``, [C], of counts [C] in a floating dtype."""
    margins = counts**-0.25
    return margins * (max_margin / margins.max())


class LDAMLoss(CountedLoss):
    """Cross-entropy of ``scale * (cos - y * D)``: the true class must win by its margin.

    Cao et al., "Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss", NeurIPS 2019, eq. 10 to 13.
    The logits are cosines of normalised features and weights. With class probabilities y, class c loses ``y_c * D_c``.

    Args:
        counts: training images of each class.
        max_margin: the rarest class's margin, 0 or more.
        scale: the factor on cosines, above 0.
        class_weights: [C] or None.

    Raises:
        DataError: a class has no image.
    """

    def __init__(
        self, counts: Sequence[int], max_margin: float = 0.5, scale: float = 30.0, class_weights: Tensor | None = None
    ) -> None:
        super().__init__(counts, class_weights)
        self.max_margin, self.scale = max_margin, scale

    def adjusted(self, logits: Tensor, targets: Tensor) -> Tensor:
        """``scale * (cos - y * D)``, [B, C], of cosines [B, C]."""
        margins = ldam_margins(self.counts.to(logits), self.max_margin)
        return self.scale * (logits - class_probabilities(targets, logits) * margins)
