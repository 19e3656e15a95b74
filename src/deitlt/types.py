"""The shapes of what the parts hand to each other."""

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor


class TokenLogits(NamedTuple):
    """What a student answers, one row of logits a token.

    cls: [B, C], the class token's; dist: [B, C], the distillation token's, or None where the student
    has no such token.
    """

    cls: Tensor
    dist: Tensor | None


class ImageBatch(NamedTuple):
    """A batch for evaluation: images [B, 3, H, W], normalised; targets [B], class ids.

    A target of `IGNORED` marks an image that only fills up a rank's last batch: it counts nowhere.
    """

    images: Tensor
    targets: Tensor


class Pasted(NamedTuple):
    """Where CutMix pasted the partner's pixels, for targets that follow the student's attention.

    mask: [H, W] bool, one for the batch. own, partner: [B, C], each image's class probabilities and those
    of the image that it was mixed with.
    """

    mask: Tensor
    own: Tensor
    partner: Tensor


class StudentBatch(NamedTuple):
    """A training batch, complete: the module that gets it makes no view and asks no teacher.

    images: [B, 3, H, W], augmented, mixed and normalised; several views of the same images follow each
    other, view after view. targets: [B] class ids, or [B, C] class probabilities while mixing is on.
    teacher: [B] the teacher's decisions, [B, C] its logits, or None where nobody teaches. pasted: what
    TransMix needs, where it is on and CutMix was drawn. local: smaller crops of the same images, or None.
    """

    images: Tensor
    targets: Tensor
    teacher: Tensor | None
    pasted: Pasted | None = None
    local: "StudentBatch | None" = None

    @property
    def parts(self) -> tuple["StudentBatch", ...]:
        """The batch and its local crops, each of images of one size."""
        return (self,) if self.local is None else (self, *self.local.parts)


IGNORED = -1  # the target of an image that counts nowhere


@dataclass(frozen=True)
class Normalisation:
    """Mean and standard deviation of each colour channel, for pixels in [0, 1]."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


@dataclass(frozen=True)
class DataInfo:
    """What the training data are, read after they were opened: the one source of the class count.

    counts: training images of each class. groups: 'head', 'mid', 'tail' -> their class ids; a group
    without a class is absent. labels: the data set's own label of each class, where classes were put in
    another order than the data set's; else 0, 1, ... authors_labels: the same labels in the order of the
    authors' code, whose ties fall otherwise; empty where the classes keep the data set's order.
    """

    num_classes: int
    counts: tuple[int, ...]
    class_names: tuple[str, ...]
    groups: dict[str, tuple[int, ...]]
    labels: tuple[int, ...] = ()
    authors_labels: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not self.labels:
            object.__setattr__(self, "labels", tuple(range(self.num_classes)))
