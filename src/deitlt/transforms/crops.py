"""Random crops: a random part of an image, scaled up, or nearly all of it, shifted."""

from collections.abc import Callable, Sequence
from typing import Literal

from PIL.Image import Image
from torchvision import transforms

from deitlt.errors import ConfigError

Crop = Literal["resized", "padded", "simple"]


def random_crop(
    where: str, crop: Crop, image_size: int, scale: Sequence[float], padding: int, interpolation: str
) -> Callable[[Image], Image]:
    """One of the crops that views begin with.

    Args:
        where: the view's node in the configuration, for errors.
        crop: 'resized' scales a random part of the image (Szegedy et al., CVPR 2015). 'padded' squashes the whole
            image to a square, pads it with black and shifts it, for small images that a narrow crop would ruin.
            'simple' keeps its shape, scales the shorter side and pads by reflection (Touvron et al., ECCV 2022).
        image_size: pixels a side of the result.
        scale: smallest and largest share of the area that a resized crop takes.
        padding: pixels on each side before a padded or simple crop.
        interpolation: how pixels are resampled.

    Raises:
        ConfigError: another crop, or a padding that the image is too small for.
    """
    if crop not in ("resized", "padded", "simple"):
        raise ConfigError(f"{where}.crop={crop} is no crop; type =resized, =padded or =simple.")
    mode = transforms.InterpolationMode(interpolation)
    if crop == "resized":
        part: Callable[[Image], Image] = transforms.RandomResizedCrop(
            image_size, (scale[0], scale[1]), interpolation=mode
        )
        return part
    if not 0 <= padding < image_size:
        raise ConfigError(
            f"{where}.padding={padding} must be at least 0 and below the image's {image_size} pixels; "
            f"type {where}.padding={image_size // 8}, say."
        )
    is_simple = crop == "simple"
    resize = transforms.Resize(image_size if is_simple else (image_size, image_size), mode)
    shift = transforms.RandomCrop(image_size, padding, padding_mode="reflect" if is_simple else "constant")
    shifted: Callable[[Image], Image] = transforms.Compose([resize, shift])
    return shifted
