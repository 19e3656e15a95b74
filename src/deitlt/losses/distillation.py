"""The student's loss: the class token learns the targets, the distillation token the teacher."""

from typing import Literal, NamedTuple

from torch import Tensor
from torch.nn import functional as F

from deitlt.errors import ConfigError
from deitlt.losses.classification import (
    ClassificationLoss,
    CrossEntropyLoss,
    Reweightable,
    at_least_float32,
    weighted_cross_entropy,
)
from deitlt.types import TokenLogits


class DistillationTerms(NamedTuple):
    """A student's loss and its parts, scalars: ``loss = cls + dist``, each already multiplied by its factor."""

    loss: Tensor
    cls: Tensor
    dist: Tensor


def hard_distillation(dist: Tensor, teacher: Tensor, weights: Tensor | None = None) -> Tensor:
    """Cross-entropy to the teacher's hard labels, weighted by the class of the label.

    Args:
        dist: [B, C], the distillation token's logits.
        teacher: [B] hard labels, or [B, C] logits.
        weights: [C] or None.
    """
    labels = teacher.argmax(dim=1) if teacher.ndim == 2 else teacher
    return weighted_cross_entropy(dist, labels, weights)


def soft_distillation(dist: Tensor, teacher: Tensor, tau: float, weights: Tensor | None = None) -> Tensor:
    """``tau^2 / (B C) * sum_i KL(softmax(t_i / tau + log w) || softmax(s_i / tau))``.

    The class weights shift the teacher's logits, so the target stays a distribution.

    Args:
        dist: [B, C], the distillation token's logits s.
        teacher: [B, C], the teacher's logits t.
        tau: the temperature.
        weights: [C] or None.
    """
    student = F.log_softmax(at_least_float32(dist) / tau, dim=1)
    target = teacher.to(student) / tau
    if weights is not None:
        target = target + weights.to(student).log()
    divergence = F.kl_div(student, F.log_softmax(target, dim=1), reduction="sum", log_target=True)
    return divergence * tau**2 / dist.numel()


class DistillationLoss(Reweightable):
    """``(1 - a) * CLS(f_cls(x), y) + a * w[t] * D(f_dist(x), t)``, t the teacher's target for the same image.

    Touvron et al., "Training data-efficient image transformers & distillation through attention", ICML 2021,
    eq. 2 (``soft``) and 3 (``hard``); Rangwani et al., "DeiT-LT", CVPR 2024, with the weights w of deferred
    re-weighting. ``none`` has no teacher: a student with two tokens learns the targets with both (the control), a
    student with a class token alone has CLS as its whole loss. Another distillation overrides `distill`.

    The class weights, from the constructor or from `reweight`, weigh the distillation token, and with ``weigh_cls``
    the class token as well; a student with one token gets them there, instead of the CLS loss's own.

    Args:
        kind: ``hard`` (the teacher's hard labels), ``soft`` (its probabilities) or ``none``.
        alpha: the distillation token's share of the loss, in [0, 1].
        tau: the temperature of ``soft``, above 0.
        cls_loss: the class token's loss; cross-entropy without weights if None.
        weigh_cls: weigh the class token's loss as well, which the paper leaves as it is.
        class_weights: [C] or None.
    """

    def __init__(
        self,
        kind: Literal["hard", "soft", "none"],
        alpha: float = 0.5,
        tau: float = 3.0,
        cls_loss: ClassificationLoss | None = None,
        class_weights: Tensor | None = None,
        weigh_cls: bool = False,
    ) -> None:
        super().__init__(class_weights)
        assert kind in ("hard", "soft", "none"), kind
        self.kind, self.alpha, self.tau, self.weigh_cls = kind, alpha, tau, weigh_cls
        self.cls_loss = CrossEntropyLoss() if cls_loss is None else cls_loss

    @property
    def hard(self) -> bool:
        """Whether it learns from the teacher's hard labels [B], not from its logits [B, C]."""
        return self.kind == "hard"

    def forward(self, student: TokenLogits, targets: Tensor, teacher: Tensor | None = None) -> DistillationTerms:
        """The loss of a batch and its parts.

        Args:
            student: cls [B, C], and dist [B, C] or None.
            targets: [B] class ids or [B, C] class probabilities.
            teacher: [B] hard labels or [B, C] logits; None without a teacher.

        Raises:
            ConfigError: no distillation token to teach, or hard labels where ``soft`` needs logits.
        """
        if student.dist is None:
            return self._class_token_alone(student.cls, targets)
        cls = (1 - self.alpha) * self._class_token(student.cls, targets, self.weigh_cls)
        dist = self.alpha * self.distill(student.dist, targets, teacher)
        return DistillationTerms(cls + dist, cls, dist)

    def _class_token_alone(self, logits: Tensor, targets: Tensor) -> DistillationTerms:
        if self.kind != "none":
            raise ConfigError(
                f"student.distillation.kind={self.kind} needs a student with a distillation token, and this "
                "one has none: choose a distilled student/model, or type student/distillation=none"
            )
        cls = self._class_token(logits, targets, weigh=True)
        return DistillationTerms(cls, cls, cls.new_zeros(()))

    def _class_token(self, logits: Tensor, targets: Tensor, weigh: bool) -> Tensor:
        """The class token's loss, under the deferred weights if they are set and `weigh`."""
        deferred = self.class_weights if weigh else None
        weights = self.cls_loss.class_weights if deferred is None else deferred
        return self.cls_loss.weighted(logits, targets, weights)

    def distill(self, dist: Tensor, targets: Tensor, teacher: Tensor | None) -> Tensor:
        """The distillation token's loss, without alpha; a subclass may replace it. Arguments as in `forward`."""
        if self.kind == "none":
            return weighted_cross_entropy(dist, targets, self.class_weights)
        assert teacher is not None, "distillation without the teacher's targets"
        if self.kind == "hard":
            return hard_distillation(dist, teacher, self.class_weights)
        if teacher.ndim != 2:
            raise ConfigError(
                "student.distillation.kind=soft needs the teacher's logits, and got its hard labels alone: "
                "type student/distillation=hard"
            )
        return soft_distillation(dist, teacher, self.tau, self.class_weights)
