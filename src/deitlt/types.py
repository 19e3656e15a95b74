"""The types that data, modules, losses and metrics pass to each other."""

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

IGNORED = -1  # the target of an image that is not counted


class TokenLogits(NamedTuple):
    """A student's output.

    cls: [B, C], logits of the class token. dist: [B, C], logits of the distillation token; None without that token.
    """

    cls: Tensor
    dist: Tensor | None


class ImageBatch(NamedTuple):
    """An evaluation batch: images [B, 3, H, W], normalised; targets [B], class ids.

    A target of `IGNORED` marks an image that only fills a rank's last batch; it is not counted.
    """

    images: Tensor
    targets: Tensor


class Pasted(NamedTuple):
    """Where CutMix pasted the partner's pixels, for TransMix's targets.

    mask: [H, W] bool, one for the batch. own, partner: [B, C], class probabilities of each image and of the image
    that it was mixed with.
    """

    mask: Tensor
    own: Tensor
    partner: Tensor


class Batch(NamedTuple):
    """A training batch: V crops of each of B images, crop after crop.

    images: [V * B, 3, H, W], transformed, mixed and normalised. targets: [V * B] class ids, or [V * B, C] class
    probabilities while mixing is on. teacher_images: [V * B, 3, h, w], the same pictures at the teacher's size and
    normalisation; None where no teacher is asked about them. pasted: TransMix's input, where it is on and CutMix was
    drawn. crops: V. local: smaller crops of the same images, mixed with the same partners, or None; local crops
    without `teacher_images` take the teacher's label of their image's first crop in `images`.
    """

    images: Tensor
    targets: Tensor
    teacher_images: Tensor | None = None
    pasted: Pasted | None = None
    crops: int = 1
    local: "Batch | None" = None

    @property
    def parts(self) -> tuple["Batch", ...]:
        """The batch and its local crops: each part has images of one size."""
        return (self,) if self.local is None else (self, *self.local.parts)


@dataclass(frozen=True)
class Normalisation:
    """Mean and standard deviation of each colour channel, for pixels in [0, 1]."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


@dataclass(frozen=True)
class DataInfo:
    """The classes of the training data, known once the data are opened.

    counts: training images of each class. groups: 'head', 'mid', 'tail' -> their class ids; a group without a class
    is absent. labels: the data set's own label of each class, where classes were reordered; else 0, 1, ...
    authors_labels: the same labels in the order of the authors' code, which breaks ties differently; empty where the
    classes keep the data set's order.
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
