"""Shears and translations for parts of a batch: each line of an image slides along itself, as Pillow moves it."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deitlt.transforms.device_policy import Floats, Operation
from deitlt.transforms.resampling import ROUNDING, Interpolation

SHEARS = (Operation.SHEAR_X, Operation.SHEAR_Y)


def slide_tables(
    operations: NDArray[np.int64], arguments: Floats, length: int, lines: int, interpolation: Interpolation
) -> NDArray[np.float32]:
    """How far the lines of each sample slide, and what the pixels count that are then mixed.

    Args:
        operations: [N], shears and translations along one axis.
        arguments: [N] slopes, or shares of the length.
        length: pixels of a line.
        lines: number of lines L.
        interpolation: 'bicubic' or 'bilinear'.

    Returns:
        [N, 6, L]: whole pixels; all of it and half a pixel; the weights of four neighbours.
    """
    is_shear = np.isin(operations, SHEARS)[:, None]
    argument, middles = arguments[:, None], np.arange(lines) + 0.5
    offsets = np.where(is_shear, argument * middles, argument * length + 0 * middles)
    whole = np.floor(offsets)
    weights = _weights(offsets - whole, interpolation)
    return np.stack((whole, offsets + 0.5, *weights), axis=1).astype(np.float32)


def _weights(rest: Floats, interpolation: Interpolation) -> tuple[Floats, ...]:
    """Keys, 1981, eq. 8 with a = -1, as Pillow moves images; `rest` is the distance from the second neighbour."""
    if interpolation == "bilinear":
        return 0 * rest, 1 - rest, rest, 0 * rest
    square, cube = rest**2, rest**3
    return 2 * square - rest - cube, 1 - 2 * square + cube, rest + square - cube, cube - square


def slid(images: Tensor, rows: Tensor, columns: Tensor, fill: Tensor) -> Tensor:
    """Slide the rows of the first samples and the columns of the others; what comes from outside gets `fill`.

    Args:
        images: [N, 3, H, W] levels.
        rows: [R, 6, H], tables of the first samples.
        columns: [N - R, 6, W], tables of the others.
        fill: [3, 1, 1] levels.

    Returns:
        [N, 3, H, W] levels, Pillow's to within one.
    """
    flat, upright = images[: len(rows)], images[len(rows) :].mT
    if images.shape[-1] != images.shape[-2]:
        return torch.cat((_slid(flat, rows, fill), _slid(upright.contiguous(), columns, fill).mT))
    moved = _slid(torch.cat((flat, upright)), torch.cat((rows, columns)), fill)  # a GPU does both at once
    return torch.cat((moved[: len(rows)], moved[len(rows) :].mT))


def _slid(images: Tensor, tables: Tensor, fill: Tensor) -> Tensor:
    """Slide the rows; between pixels, the outermost ones are repeated."""
    length = images.shape[-1]
    whole, middles, *weights = tables.unsqueeze(-1).unsqueeze(1).unbind(dim=2)
    places = torch.arange(-1, length + 2, device=images.device, dtype=images.dtype)
    neighbours = (whole + places).clamp_(0, length - 1).long()
    around = images.gather(3, neighbours.expand(-1, 3, -1, -1))
    total = torch.full_like(images, ROUNDING)
    for tap, weight in enumerate(weights):
        total.addcmul_(around.narrow(3, tap, length), weight)
    middles = middles + places[1 : length + 1]
    return filled(total, (middles >= 0) & (middles < length), fill)


def filled(levels: Tensor, is_inside: Tensor, fill: Tensor) -> Tensor:
    """Cut off what is behind the point, and fill what is outside, in place.

    Args:
        levels: [N, 3, H, W], each by `ROUNDING` too high.
        is_inside: [N, 1, H, W].
        fill: [3, 1, 1] levels.
    """
    levels.clamp_(0, 255).floor_()
    return levels.sub_(fill).mul_(is_inside).add_(fill)  # quicker than a choice, and exact for whole levels
