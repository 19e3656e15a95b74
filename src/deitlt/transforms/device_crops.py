"""Draws of the crops and flips of a batch: the boxes that `random_crop` and timm would draw, many at once."""

import math

import numpy as np
from numpy.typing import NDArray

from deitlt.transforms.crops import Crop
from deitlt.transforms.resampling import NOWHERE, Axis

ATTEMPTS = 10  # boxes tried before the whole image, or its middle, is taken
ASPECT = (3 / 4, 4 / 3)  # width over height of a resized crop
Integers = NDArray[np.int64]


def crop_axes(
    crop: Crop,
    source: tuple[int, int],
    image_size: int,
    scale: tuple[float, float],
    padding: int,
    flipped: NDArray[np.bool_],
    rng: np.random.Generator,
) -> tuple[Axis, Axis]:
    """Draw one crop for each sample, of the kinds of `random_crop`.

    Args:
        crop: 'resized', 'padded' or 'simple'.
        source: height and width of the images.
        image_size: pixels S a side of the result.
        scale: smallest and largest share of the area that a resized crop takes.
        padding: pixels on each side before a padded or simple crop.
        flipped: [B], whether a sample is mirrored from left to right.
        rng: where the draws come from.

    Returns:
        Where rows and columns come from.
    """
    batch = len(flipped)
    pixels = np.arange(image_size)
    across = np.where(flipped[:, None], pixels[::-1], pixels)
    down = np.broadcast_to(pixels, across.shape)
    if crop == "resized":
        top, left, height, width = draw_boxes(source, scale, batch, rng).T
        return _part(down, top, height, image_size), _part(across, left, width, image_size)
    resized = _simple_size(source, image_size) if crop == "simple" else (image_size, image_size)
    axes = []
    for positions, length, side in zip((down, across), source, resized, strict=True):
        offsets = rng.integers(side + 2 * padding - image_size, size=(batch, 1), endpoint=True) - padding
        axes.append(_shifted(positions + offsets, length, side, is_reflected=crop == "simple"))
    return axes[0], axes[1]


def draw_boxes(source: tuple[int, int], scale: tuple[float, float], batch: int, rng: np.random.Generator) -> Integers:
    """Random parts of an image: area uniform in `scale`, aspect ratio uniform on a logarithmic axis.

    Szegedy et al., CVPR 2015; with ten attempts to fit into the image, as torchvision and timm have it.

    Args:
        source: height and width of the images.
        scale: smallest and largest share of the area.
        batch: number of boxes B.
        rng: where the draws come from.

    Returns:
        [B, 4]: top, left, height, width.
    """
    height, width = source
    area = rng.uniform(*scale, size=(batch, ATTEMPTS)) * (height * width)
    ratio = np.exp(rng.uniform(math.log(ASPECT[0]), math.log(ASPECT[1]), size=(batch, ATTEMPTS)))
    sides = np.rint(np.sqrt(np.stack((area / ratio, area * ratio), axis=-1))).astype(np.int64)
    chosen, fits = first_fitting(sides, (sides >= 1) & (sides <= source))
    corners = (rng.random((batch, 2)) * (np.array(source) - chosen + 1)).astype(np.int64)
    boxes = np.concatenate((corners, chosen), axis=1)
    return np.where(fits, boxes, np.array(_middle(source)))


def first_fitting(sides: Integers, fits: NDArray[np.bool_]) -> tuple[Integers, NDArray[np.bool_]]:
    """sides: [B, A, 2], fits: [B, A, 2] -> the first of A attempts that fits, or 0 [B, 2]; whether any does [B, 1]."""
    both = fits[..., 0] & fits[..., 1]
    samples, first = np.arange(len(sides)), both.argmax(axis=1)
    has_any = both[samples, first][:, None]
    return np.where(has_any, sides[samples, first], 0), has_any


def _middle(source: tuple[int, int]) -> tuple[int, int, int, int]:
    """The largest box in the middle that is not too narrow nor too wide."""
    height, width = source
    if width < ASPECT[0] * height:
        tall = round(width / ASPECT[0])
        return (height - tall) // 2, 0, tall, width
    if width > ASPECT[1] * height:
        wide = round(height * ASPECT[1])
        return 0, (width - wide) // 2, height, wide
    return 0, 0, height, width


def _part(positions: Integers, start: Integers, length: Integers, image_size: int) -> Axis:
    """The axis of a box that is scaled to the whole result."""
    step = length / image_size
    centres = start[:, None] + (positions + 0.5) * step[:, None]
    return Axis(centres, np.maximum(step, 1.0), start.astype(np.float64), (start + length).astype(np.float64))


def _simple_size(source: tuple[int, int], image_size: int) -> tuple[int, int]:
    """Height and width once the shorter side has `image_size` pixels."""
    shorter = min(source)
    return int(image_size * source[0] / shorter), int(image_size * source[1] / shorter)


def _shifted(places: Integers, length: int, side: int, is_reflected: bool) -> Axis:
    """The axis of an image scaled to `side` pixels, of which `places` are taken; outside it is mirrored or black."""
    inside = np.clip(places, 0, side - 1)
    if is_reflected:
        inside = side - 1 - np.abs(side - 1 - np.abs(places))
    step = length / side
    is_black = (places != inside) & (not is_reflected)
    centres = np.where(is_black, NOWHERE, (inside + 0.5) * step)
    whole = np.full(len(places), float(length))
    return Axis(centres, np.maximum(whole * 0 + step, 1.0), whole * 0, whole)
