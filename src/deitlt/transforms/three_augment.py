"""3-Augment, the student's view of DeiT-III."""

from collections.abc import Callable

from PIL.Image import Image
from torch import Tensor

from deitlt.transforms.crops import Crop
from deitlt.transforms.limits import check_jitter
from deitlt.transforms.student import WHERE, timm_view
from deitlt.types import Normalisation

THREE = "3a"  # timm's name of the three


def three_augment_view(
    image_size: int,
    normalisation: Normalisation,
    crop: Crop = "resized",
    scale: tuple[float, float] = (0.08, 1.0),
    padding: int = 4,
    flip: float = 0.5,
    rand_augment: str | None = None,
    jitter: float = 0.3,
    erasing: float = 0.0,
    interpolation: str = "bicubic",
) -> Callable[[Image], Tensor]:
    """Crop, flip, one of (grey, solarised, blurred) with equal chances, then a change of colours.

    Touvron et al., "DeiT III: Revenge of the ViT", ECCV 2022, section 3.2 and figure 4; solarised from 128 on,
    blurred by .1 to 2 pixels. With 'simple' for ImageNet-21k, 'resized' for ImageNet-1k.

    Args:
        image_size: pixels a side of the result.
        normalisation: statistics that the result is normalised with.
        crop: 'resized' takes a random part and scales it; 'simple' scales the shorter side and shifts the square;
            'padded' scales the whole image to a square and shifts it.
        scale: smallest and largest share of the area that a resized crop takes.
        padding: pixels around the image before a simple or padded crop.
        flip: probability of a horizontal flip.
        rand_augment: taken since recipes set it for `student_view`, and not used: the three stand in its place.
        jitter: strength of the change of brightness, contrast and saturation.
        erasing: probability of filling a random rectangle with noise, pixel by pixel.
        interpolation: how pixels are resampled.

    Returns:
        A function from a picture to [3, image_size, image_size].
    """
    check_jitter(WHERE, jitter, jitter, jitter)
    return timm_view(image_size, normalisation, crop, scale, padding, flip, THREE, jitter, erasing, interpolation)
