"""The student's strong view of one image, made by timm's transforms in a worker."""

from collections.abc import Callable

from PIL.Image import Image
from timm.data.transforms_factory import create_transform
from torch import Tensor

from deitlt.transforms.crops import Crop, random_crop
from deitlt.transforms.limits import check_areas, check_probabilities
from deitlt.types import Normalisation

WHERE = "student.views.train"


def student_view(
    image_size: int,
    normalisation: Normalisation,
    crop: Crop = "resized",
    scale: tuple[float, float] = (0.08, 1.0),
    padding: int = 4,
    flip: float = 0.5,
    rand_augment: str | None = "rand-m9-mstd0.5-inc1",
    erasing: float = 0.25,
    interpolation: str = "bicubic",
) -> Callable[[Image], Tensor]:
    """Crop, flip, RandAugment, normalisation and erasing, in DeiT's order (Touvron et al., 2021, table 9).

    Args:
        image_size: pixels a side of the result.
        normalisation: statistics that the result is normalised with.
        crop: 'resized' takes a random part of the image and scales it; 'padded' scales the whole image
            and shifts it by up to `padding` pixels, for small images that a narrow crop would ruin;
            'simple' does so with the shorter side, so that the image keeps its shape.
        scale: smallest and largest share of the area that a resized crop takes.
        padding: pixels around the image before a padded or simple crop.
        flip: probability of a horizontal flip; 0 where left and right mean something, as in digits.
        rand_augment: timm's description of RandAugment, or None for none.
        erasing: probability of filling a random rectangle with noise, pixel by pixel.
        interpolation: how pixels are resampled.

    Returns:
        A function from a picture to [3, image_size, image_size]. It draws from Python's, NumPy's and
        torch's global streams, which the data set seeds for each image.
    """
    return timm_view(image_size, normalisation, crop, scale, padding, flip, rand_augment, 0.0, erasing, interpolation)


def timm_view(
    image_size: int,
    normalisation: Normalisation,
    crop: Crop,
    scale: tuple[float, float],
    padding: int,
    flip: float,
    auto_augment: str | None,
    jitter: float,
    erasing: float,
    interpolation: str,
) -> Callable[[Image], Tensor]:
    """timm's training transform behind one of our crops, with the student's options checked.

    Args:
        auto_augment: timm's description of what happens to colours and shapes, or None for nothing.
        jitter: strength of the change of colours, which timm leaves out beside RandAugment.
        image_size: this and the others as in `student_view`.

    Raises:
        ConfigError: an option that cannot be.
    """
    check_areas(WHERE, scale=scale)
    check_probabilities(WHERE, flip=flip, erasing=erasing)
    cropped = random_crop(WHERE, crop, image_size, scale, padding, interpolation)
    view = create_transform(
        image_size,
        is_training=True,
        scale=(scale[0], scale[1]),
        hflip=flip,
        color_jitter=jitter,
        auto_augment=auto_augment,
        interpolation=interpolation,
        mean=normalisation.mean,
        std=normalisation.std,
        re_prob=erasing,
        re_mode="pixel",
    )
    if crop != "resized":
        view.transforms[0] = cropped
    composed: Callable[[Image], Tensor] = view
    return composed
