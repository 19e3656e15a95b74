"""Image files to uint8 tensors: whole, or the part that a random crop takes, reduced while it is decoded."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from PIL import Image
from torch import Tensor
from torchvision import transforms
from torchvision.transforms.v2 import functional as F

from deitlt.data.images import decode
from deitlt.errors import DataError

JPEG = b"\xff\xd8"  # what every JPEG file begins with
# A JPEG can be decoded at 1/2, 1/4 or 1/8 of its size. Measured on one core, to 224 pixels: from four times that
# size on it pays (1,600 x 1,200: 3.8 ms instead of 5.8), below it torchvision's decoder of the whole is faster.
REDUCED_FROM = 4


class Box(NamedTuple):
    """A part of an image, in its pixels."""

    top: int
    left: int
    height: int
    width: int


def read_bytes(path: str) -> bytes:
    """A file's content.

    Raises:
        DataError: it cannot be read.
    """
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise DataError(
            f"{path} cannot be read ({error.strerror}); put it back, or type data.on_broken=skip."
        ) from error


def decode_whole(path: str) -> Tensor:
    """A file's image: [3, H, W] uint8.

    torchvision's decoder takes half of Pillow's time for a JPEG; Pillow reads everything else.

    Raises:
        DataError: the file cannot be read or decoded.
    """
    return _decode(path, read_bytes(path))


def decode_cropped(path: str, crop: Callable[..., Tensor | Image.Image], image_size: int) -> Tensor:
    """What a random crop takes of a file's image: [3, image_size, image_size] uint8.

    A random resized crop is drawn before anything is decoded, so that a JPEG of which it takes far more pixels
    than it keeps is decoded at a fraction of its size.

    Args:
        path: the file.
        crop: a transform of images and tensors; it may draw from the global streams.
        image_size: pixels a side of what it gives.

    Raises:
        DataError: the file cannot be read or decoded.
    """
    if not isinstance(crop, transforms.RandomResizedCrop):
        return cast(Tensor, crop(decode_whole(path)))
    content = read_bytes(path)
    box = draw_box(path, content, crop)
    if content.startswith(JPEG) and min(box.height, box.width) >= REDUCED_FROM * image_size:
        return _decode_reduced(content, box, image_size, crop.interpolation)
    return resize_box(_decode(path, content), box, image_size, crop.interpolation)


def draw_box(path: str, content: bytes, crop: transforms.RandomResizedCrop) -> Box:
    """The part that a random resized crop takes of an encoded image, whose header alone is read.

    Raises:
        DataError: the header cannot be read.
    """
    try:
        with Image.open(io.BytesIO(content)) as image:
            return Box(*crop.get_params(image, list(crop.scale), list(crop.ratio)))
    except (OSError, ValueError, SyntaxError):
        decode(path)  # says what is wrong
        raise


def resize_box(image: Tensor, box: Box, image_size: int, interpolation: transforms.InterpolationMode) -> Tensor:
    """image: [3, H, W] uint8 -> its part, scaled: [3, image_size, image_size] uint8."""
    scaled: Tensor = F.resized_crop(image, *box, [image_size, image_size], interpolation, antialias=True)
    return scaled


def decode_jpegs(contents: list[bytes], device: torch.device) -> list[Tensor]:
    """JPEGs decoded where the images are needed, by nvJPEG on a GPU: each [3, H, W] uint8 on the device.

    Raises:
        DataError: one of them is no JPEG, or cannot be decoded there.
    """
    if any(not content.startswith(JPEG) for content in contents):
        raise DataError("data.decoder=device decodes only JPEG files, and others are here; type data.decoder=worker.")
    try:
        return cast(list[Tensor], _decode_jpeg([_encoded(content) for content in contents], device))
    except RuntimeError as error:
        raise DataError(
            f"data.decoder=device: a JPEG cannot be decoded there ({str(error).splitlines()[0].rstrip('.')}); "
            "type data.decoder=worker, which reads more kinds."
        ) from error


def _decode(path: str, content: bytes) -> Tensor:
    if content.startswith(JPEG):
        try:
            return cast(Tensor, _decode_jpeg(_encoded(content), torch.device("cpu")))
        except (ImportError, RuntimeError):
            pass  # Pillow knows more kinds, and names what is broken
    return _tensor(decode(path))


def _decode_jpeg(encoded: Tensor | list[Tensor], device: torch.device) -> Any:
    from torchvision.io import ImageReadMode, decode_jpeg  # will leave torchvision one day, as its 0.29 says

    return decode_jpeg(encoded, ImageReadMode.RGB, device=device)


def _encoded(content: bytes) -> Tensor:
    return torch.frombuffer(bytearray(content), dtype=torch.uint8)


def _decode_reduced(content: bytes, box: Box, image_size: int, interpolation: transforms.InterpolationMode) -> Tensor:
    """The part of a JPEG, decoded at the smallest of the format's sizes that is still larger than what is kept."""
    with Image.open(io.BytesIO(content)) as image:
        whole_width, whole_height = image.size
        image.draft("RGB", (image_size * whole_width // box.width, image_size * whole_height // box.height))
        pixels = image.convert("RGB")
    across, down = pixels.width / whole_width, pixels.height / whole_height
    left, top = box.left * across, box.top * down
    part = (left, top, left + box.width * across, top + box.height * down)
    resampling = Image.Resampling[interpolation.name]
    return _tensor(pixels.resize((image_size, image_size), resampling, box=part))


def _tensor(image: Image.Image) -> Tensor:
    return cast(Tensor, F.pil_to_tensor(image))
