"""Multi-crop: some large crops of an image, and more small ones that cost little."""

from functools import partial

from deitlt.errors import ConfigError
from deitlt.transforms.crops import Crop
from deitlt.transforms.limits import check_areas
from deitlt.transforms.several import SeveralViews
from deitlt.transforms.student import WHERE, student_view
from deitlt.types import Normalisation

SMALLEST = 8  # pixels a side of a local crop that still shows something


def multi_crop_view(
    image_size: int,
    normalisation: Normalisation,
    global_crops: int = 2,
    local_crops: int = 4,
    local_size: int = 96,
    local_scale: tuple[float, float] = (0.05, 0.25),
    crop: Crop = "resized",
    scale: tuple[float, float] = (0.25, 1.0),
    padding: int = 4,
    flip: float = 0.5,
    rand_augment: str | None = "rand-m9-mstd0.5-inc1",
    erasing: float = 0.25,
    interpolation: str = "bicubic",
) -> SeveralViews:
    """Caron et al., "Unsupervised Learning of Visual Features by Contrasting Cluster Assignments", NeurIPS 2020.

    Each crop is a `student_view` of its own. The shares of the area are those of DINO's transformers (Caron et
    al., ICCV 2021): a global crop shows a quarter of the image or more, a local one a quarter or less.

    Args:
        image_size: pixels a side of a global crop.
        normalisation: statistics that the crops are normalised with.
        global_crops: how many, 1 or more.
        local_crops: how many; 0 for none.
        local_size: pixels a side of a local crop, from 8 to less than image_size.
        local_scale: smallest and largest share of the area that a local crop takes.
        crop: how a global crop is made, as in `student_view`; local ones are always resized.
        scale: smallest and largest share of the area that a resized global crop takes.
        padding: pixels around the image before a padded or simple global crop.
        flip: probability of a horizontal flip.
        rand_augment: timm's description of RandAugment, or None for none.
        erasing: probability of filling a random rectangle with noise, pixel by pixel.
        interpolation: how pixels are resampled.

    Returns:
        A function from a picture to the global crops [3, image_size, image_size] and then the local ones
        [3, local_size, local_size].

    Raises:
        ConfigError: a number of crops, a size or a share that cannot be.
    """
    _check_crops(image_size, global_crops, local_crops, local_size)
    check_areas(WHERE, local_scale=local_scale)
    view = partial(
        student_view,
        normalisation=normalisation,
        flip=flip,
        rand_augment=rand_augment,
        erasing=erasing,
        interpolation=interpolation,
    )
    views = [view(image_size, crop=crop, scale=scale, padding=padding)] * global_crops
    if local_crops:
        views += [view(local_size, crop="resized", scale=local_scale, padding=0)] * local_crops
    return SeveralViews(tuple(views))


def _check_crops(image_size: int, global_crops: int, local_crops: int, local_size: int) -> None:
    if global_crops < 1:
        raise ConfigError(f"{WHERE}.global_crops={global_crops} leaves nothing to show; type {WHERE}.global_crops=2.")
    if local_crops < 0:
        raise ConfigError(f"{WHERE}.local_crops={local_crops} is too small; type {WHERE}.local_crops=0 for none.")
    if local_crops and image_size <= SMALLEST:
        raise ConfigError(f"Images of {image_size} pixels have no smaller crops; type {WHERE}.local_crops=0.")
    if local_crops and not SMALLEST <= local_size < image_size:
        raise ConfigError(
            f"{WHERE}.local_size={local_size} must be from {SMALLEST} to {image_size - 1}, smaller than the "
            f"global crops of {image_size} pixels; type {WHERE}.local_size={max(SMALLEST, image_size // 2)}, say."
        )
