"""Several views of one image, each drawn by itself: PaCo's pairs, and multi-crop."""

from collections.abc import Sequence
from typing import Any, Protocol, Unpack, cast

from PIL.Image import Image
from torch import Tensor

from deitlt.errors import ConfigError
from deitlt.transforms.deferred import deferred
from deitlt.transforms.image import (
    STUDENT,
    CropOptions,
    ImageTransform,
    check_area,
    student_transform,
)
from deitlt.types import Normalisation

SMALLEST = 8  # pixels a side of a local crop that still shows something


class MultiView:
    """A tuple of views of one picture, each drawn by itself, in a fixed order; as a `DeferredTransform`, too.

    Args:
        transforms: picture -> [3, H, W], each with a size of its own.
    """

    def __init__(self, transforms: Sequence[ImageTransform]) -> None:
        self.transforms = [deferred(transform) for transform in transforms]

    def __call__(self, picture: Image) -> tuple[Tensor, ...]:
        """One tensor [3, H, W] from each transform."""
        return tuple(view[0] for view in self.on_device(self.collate([self.in_worker(picture)])))

    def in_worker(self, picture: Image) -> list[Any]:
        """All that is random, of each view."""
        return [transform.in_worker(picture) for transform in self.transforms]

    def collate(self, samples: list[list[Any]]) -> list[Any]:
        """The samples of B pictures, view by view."""
        views = zip(*samples, strict=True)
        return [transform.collate(list(view)) for transform, view in zip(self.transforms, views, strict=True)]

    def on_device(self, travelled: list[Any]) -> tuple[Tensor, ...]:
        """The batch of each view, [B, 3, H, W]."""
        pairs = zip(self.transforms, travelled, strict=True)
        return tuple(cast(Tensor, transform.on_device(view)) for transform, view in pairs)


class PairedFactory(Protocol):
    """Makes the transform of one view of a pair, of a given size and normalisation."""

    def __call__(self, image_size: int, normalisation: Normalisation, *, padding: int, flip: float) -> ImageTransform:
        """The transform: a picture -> [3, image_size, image_size]."""
        ...


def paired_transform(
    image_size: int,
    normalisation: Normalisation,
    first: PairedFactory,
    second: PairedFactory,
    padding: int = 4,
    flip: float = 0.5,
) -> MultiView:
    """A pair of views: PaCo's query encoder sees the first, its key encoder the second.

    Cui et al., "Parametric Contrastive Learning", ICCV 2021, section 4.1: the first is a classifier's strong
    augmentation, the second SimCLR's.

    Args:
        image_size: pixels a side of both.
        normalisation: statistics that both are normalised with.
        first: makes the transform of the first view.
        second: makes that of the second.
        padding: pixels on each side before a padded crop, in both.
        flip: probability of a horizontal flip, in both: it is the data that may be mirrored or not.

    Returns:
        A function from a picture to two tensors [3, image_size, image_size].
    """
    query = first(image_size, normalisation, padding=padding, flip=flip)
    key = second(image_size, normalisation, padding=padding, flip=flip)
    return MultiView([query, key])


def multi_crop_transform(
    image_size: int,
    normalisation: Normalisation,
    global_crops: int = 2,
    local_crops: int = 4,
    local_size: int = 96,
    local_scale: tuple[float, float] = (0.05, 0.25),
    rand_augment: str | None = "rand-m9-mstd0.5-inc1",
    erasing: float = 0.25,
    **crop: Unpack[CropOptions],
) -> MultiView:
    """Caron et al., "Unsupervised Learning of Visual Features by Contrasting Cluster Assignments", NeurIPS 2020.

    Each crop is a `student_transform` of its own. The shares of the area are those of DINO's transformers (Caron et
    al., ICCV 2021): a global crop shows a quarter of the image or more, a local one a quarter or less.

    Args:
        image_size: pixels a side of a global crop.
        normalisation: statistics that the crops are normalised with.
        global_crops: how many, 1 or more.
        local_crops: how many; 0 for none.
        local_size: pixels a side of a local crop, from 8 to less than image_size.
        local_scale: smallest and largest share of the area that a local crop takes.
        rand_augment: timm's description of RandAugment, or None for none.
        erasing: probability of filling a random rectangle with noise, pixel by pixel.
        crop: of the global crops, as in `CropFlip`, but of a quarter of the area or more unless it is said; local
            crops are always resized.

    Returns:
        A function from a picture to the global crops [3, image_size, image_size] and then the local ones
        [3, local_size, local_size].

    Raises:
        ConfigError: local crops of a size that cannot be, or shares of the area that are none.
    """
    _check_crops(image_size, local_crops, local_size)
    check_area(STUDENT, "local_scale", local_scale)
    crop.setdefault("scale", (0.25, 1.0))
    whole = student_transform(image_size, normalisation, rand_augment, erasing, **crop)
    resized: CropOptions = {**crop, "crop": "resized", "scale": local_scale}
    part = student_transform(local_size, normalisation, rand_augment, erasing, **resized)
    return MultiView([whole] * global_crops + [part] * local_crops)


def _check_crops(image_size: int, local_crops: int, local_size: int) -> None:
    if local_crops and image_size <= SMALLEST:
        raise ConfigError(f"Images of {image_size} pixels have no smaller crops; type {STUDENT}.local_crops=0.")
    if local_crops and not SMALLEST <= local_size < image_size:
        raise ConfigError(
            f"{STUDENT}.local_size={local_size} must be from {SMALLEST} to {image_size - 1}, smaller than the "
            f"global crops of {image_size} pixels; type {STUDENT}.local_size={max(SMALLEST, image_size // 2)}, say."
        )
