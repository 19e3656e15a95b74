"""Random crops of a whole batch: boxes drawn for each sample, resampled as Pillow does it."""

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deitlt.transforms.image import CropFlip, Interpolation

Floats = NDArray[np.float64]

NOWHERE = -1e6  # a centre that no pixel is near: what is taken from there is black
ROUNDING = 2**-10  # of a level: what float32 may lack of a half or of a whole one
SHARPNESS = -0.5  # of the cubic kernel: the parameter a of Keys, 1981, eq. 8, as Pillow resizes


class Axis(NamedTuple):
    """Where the pixels of each sample's crop come from along one axis, in source pixels.

    centres: [B, S], the place of each resulting pixel's centre, or `NOWHERE` for black. stretch: [B], source
    pixels a resulting pixel, at least 1: how far the kernel is widened to smooth before an image shrinks.
    first, last: [B], the window whose pixels count, from `first` to just before `last`.
    """

    centres: Floats
    stretch: Floats
    first: Floats
    last: Floats

    def packed(self) -> NDArray[np.float32]:
        """[B, S + 3]: all of it in one array, to be moved at once."""
        return np.column_stack((self.centres, self.stretch, self.first, self.last)).astype(np.float32)


def resample(images: Tensor, axes: Tensor, interpolation: Interpolation) -> Tensor:
    """Crop and scale each image of a batch; first along its rows, then along its columns, as Pillow does.

    Args:
        images: [B, 3, H, W] levels from 0 to 255, of any type.
        axes: [2, B, S + 3], the packed `Axis` of the rows and that of the columns, on the images' device.
        interpolation: 'bicubic' or 'bilinear'.

    Returns:
        [B, 3, S, S] float32, whole levels from 0 to 255: within one level of Pillow's own.
    """
    batch, channels, height, width = images.shape
    if height == width:  # in half as many steps
        down, across = resampling_matrix(axes.flatten(0, 1), height, interpolation).view(2, batch, -1, height)
    else:
        down, across = (resampling_matrix(*axis, interpolation) for axis in zip(axes, (height, width), strict=True))
    lines = images.float().reshape(batch, channels * height, width)
    wide = to_levels(torch.bmm(lines, across.mT)).view(batch, channels, height, -1)
    return to_levels(torch.matmul(down.unsqueeze(1), wide))


def resampling_matrix(axis: Tensor, length: int, interpolation: Interpolation) -> Tensor:
    """What each source pixel counts for each resulting one.

    Args:
        axis: [B, S + 3], a packed `Axis`.
        length: source pixels L along the axis.
        interpolation: 'bicubic' or 'bilinear'.

    Returns:
        [B, S, L]; rows sum to 1, or are 0 where the result is black.
    """
    centres = axis[:, :-3].unsqueeze(-1)
    stretch, first, last = (axis[:, i].view(-1, 1, 1) for i in (-3, -2, -1))
    places = torch.arange(length, device=axis.device, dtype=axis.dtype).add_(0.5)
    distances = (places - centres).div_(stretch).abs_()
    weights: Tensor = _cubic(distances) if interpolation == "bicubic" else (1 - distances).clamp_(min=0)
    weights *= (places > first) & (places < last)
    return weights.div_(weights.sum(dim=-1, keepdim=True).clamp_(min=1e-6))


def to_levels(images: Tensor) -> Tensor:
    """Clamp and round to whole levels from 0 to 255, halves upwards as Pillow does, in place."""
    return images.clamp_(0, 255).add_(0.5 + ROUNDING).floor_()


def _cubic(distances: Tensor) -> Tensor:
    """The cubic kernel: one polynomial up to 1, and one from 1 to 2, each of which ends at 0."""
    near, far = distances.clamp(max=1), distances.clamp(1, 2)
    inner = near.mul(SHARPNESS + 2).sub_(SHARPNESS + 3).mul_(near).mul_(near).add_(1)
    outer = far.sub(5).mul_(far).add_(8).mul_(far).sub_(4).mul_(SHARPNESS)
    return inner.add_(outer)


def moved(values: NDArray[Any], device: torch.device) -> Tensor:
    """A copy on the device, which the host does not wait for: from pinned memory, where the device is a GPU."""
    tensor = torch.from_numpy(np.ascontiguousarray(values))
    if device.type == "cuda" and values.size:
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


ATTEMPTS = 10  # boxes tried before the whole image, or its middle, is taken
ASPECT = (3 / 4, 4 / 3)  # width over height of a resized crop
Integers = NDArray[np.int64]


def crop_axes(
    begin: CropFlip,
    source: tuple[int, int],
    image_size: int,
    flipped: NDArray[np.bool_],
    rng: np.random.Generator,
) -> tuple[Axis, Axis]:
    """Draw one crop for each sample.

    Args:
        begin: what is drawn.
        source: height and width of the images.
        image_size: pixels S a side of the result.
        flipped: [B], whether a sample is mirrored from left to right.
        rng: where the draws come from.

    Returns:
        Where rows and columns come from.
    """
    batch = len(flipped)
    pixels = np.arange(image_size)
    across = np.where(flipped[:, None], pixels[::-1], pixels)
    down = np.broadcast_to(pixels, across.shape)
    if begin.crop == "resized":
        top, left, height, width = draw_boxes(source, (begin.scale[0], begin.scale[1]), batch, rng).T
        return _part(down, top, height, image_size), _part(across, left, width, image_size)
    resized = _simple_size(source, image_size) if begin.crop == "simple" else (image_size, image_size)
    axes = []
    for positions, length, side in zip((down, across), source, resized, strict=True):
        offsets = rng.integers(side + 2 * begin.padding - image_size, size=(batch, 1), endpoint=True)
        axes.append(_shifted(positions + offsets - begin.padding, length, side, is_reflected=begin.crop == "simple"))
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
