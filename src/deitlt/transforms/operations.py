"""RandAugment's operations on batches of levels: colours in Pillow's arithmetic, slides, and one resampling."""

from collections.abc import Sequence
from enum import IntEnum
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from deitlt.transforms.batch_crops import ROUNDING, Floats, moved
from deitlt.transforms.image import Interpolation


class Operation(IntEnum):
    """What may happen to an image, sorted by how it is computed."""

    NONE = -1
    INVERT = 0  # from here on: a table of levels that the argument alone decides
    BRIGHTNESS = 1
    POSTERIZE = 2
    SOLARIZE = 3
    SOLARIZE_ADD = 4
    CONTRAST = 5  # from here on: a table that the image decides, too
    AUTO_CONTRAST = 6
    EQUALIZE = 7
    COLOR = 8  # blends with another image
    SHARPNESS = 9
    ROTATE = 10  # from here on: geometry; two moves folded into one go as a rotation
    SHEAR_X = 11  # along rows
    TRANSLATE_X = 12
    SHEAR_Y = 13  # along columns
    TRANSLATE_Y = 14


class Layer(NamedTuple):
    """One layer's draws: operations [B], of `Operation`, and their arguments [B]; 0 where there is none."""

    operations: NDArray[np.int64]
    arguments: Floats

    def part(self, chosen: slice) -> "Layer":
        """The draws of some of the samples."""
        return Layer(self.operations[chosen], self.arguments[chosen])


LEVELS = 256
RED, GREEN, BLUE = 19595, 38470, 7471  # what Pillow's grey is made of, in 65536ths: whole numbers, exact in float32
HALF = 32768  # of these
SMOOTH_CENTRE, SMOOTH_SUM = 5, 13  # of the 3 x 3 kernel that Sharpness smooths with; its other weights are 1


def fixed_tables(operations: NDArray[np.int64], arguments: NDArray[np.float64]) -> NDArray[np.float32]:
    """Tables of the operations that the argument alone decides.

    Args:
        operations: [N], of `Operation`, up to SOLARIZE_ADD.
        arguments: [N] factors of brightness, bits to keep, thresholds, or summands.

    Returns:
        [N, 256]: what becomes of each level.
    """
    levels = np.arange(LEVELS, dtype=np.float32)
    argument = arguments[:, None].astype(np.float32)
    step = np.exp2(8 - argument * (operations[:, None] == Operation.POSTERIZE))  # 0 bits leave black
    choices = {
        Operation.INVERT: LEVELS - 1 - levels,
        Operation.BRIGHTNESS: np.floor(np.minimum(levels * argument, LEVELS - 1)),
        Operation.POSTERIZE: np.floor(levels / step) * step,
        Operation.SOLARIZE: np.where(levels < argument, levels, LEVELS - 1 - levels),
        Operation.SOLARIZE_ADD: np.where(levels < LEVELS // 2, np.minimum(levels + argument, LEVELS - 1), levels),
    }
    tables = np.empty((len(operations), LEVELS), np.float32)
    for operation, values in choices.items():
        is_it = operations == operation
        tables[is_it] = np.broadcast_to(values, tables.shape)[is_it]
    return tables


def grey(images: Tensor) -> Tensor:
    """images: [N, 3, H, W] levels -> [N, 1, H, W], Pillow's conversion to 'L'."""
    red, green, blue = images.unbind(dim=1)
    total: Tensor = (red * RED).add_(green, alpha=GREEN).add_(blue, alpha=BLUE).add_(HALF)
    return total.div_(2 * HALF).floor_().unsqueeze(1)


def contrast_tables(images: Tensor, factors: Tensor) -> Tensor:
    """images: [N, 3, H, W], factors: [N] -> [N, 3, 256]: each level blended with the image's mean grey."""
    mean = grey(images).mean(dim=(1, 2, 3)).add_(0.5).floor_().view(-1, 1)
    levels = torch.arange(LEVELS, device=images.device, dtype=images.dtype)
    return _truncated((levels - mean).mul_(factors.view(-1, 1)).add_(mean)).unsqueeze(1).expand(-1, 3, -1)


def auto_contrast_tables(images: Tensor) -> Tensor:
    """images: [N, 3, H, W] -> [N, 3, 256]: each channel's darkest level becomes 0, its lightest 255."""
    pixels = images.flatten(2)  # not `aminmax`, which is far slower on a processor
    low, high = pixels.amin(dim=-1, keepdim=True), pixels.amax(dim=-1, keepdim=True)
    levels = torch.arange(LEVELS, device=images.device, dtype=images.dtype)
    span = high - low
    # The product is whole and below 2^24, so that the quotient is rounded down without an error.
    spread = torch.div((levels - low).mul_(LEVELS - 1), span.clamp(min=1), rounding_mode="floor")
    return torch.where(span > 0, spread.clamp_(0, LEVELS - 1), levels)


def equalize_tables(images: Tensor, indices: Tensor) -> Tensor:
    """Each channel's levels moved so that their cumulative histogram becomes even.

    Args:
        images: [N, 3, H, W] levels.
        indices: [N, 3, H * W], the same as int64.

    Returns:
        [N, 3, 256]. Levels stay as they are where a channel has one level only, or hardly any pixels.
    """
    one = torch.ones((), device=images.device, dtype=torch.int64).expand_as(indices)
    counts = torch.zeros(*indices.shape[:2], LEVELS, device=images.device, dtype=torch.int64)
    counts = counts.scatter_add_(2, indices, one)
    lightest = counts.gather(2, indices.amax(dim=-1, keepdim=True))
    step = (indices.shape[-1] - lightest).div_(LEVELS - 1, rounding_mode="floor")
    below = counts.cumsum(dim=-1).sub_(counts)
    moved = below.add_(step // 2).div_(step.clamp(min=1), rounding_mode="floor").clamp_(max=LEVELS - 1)
    levels = torch.arange(LEVELS, device=images.device)
    return torch.where(step > 0, moved, levels).to(images.dtype)


def look_up(tables: Tensor, indices: Tensor, shape: torch.Size) -> Tensor:
    """tables: [N, 3, 256], indices: [N, 3, H * W] -> [N, 3, H, W], each level replaced."""
    return tables.gather(2, indices).view(shape)


def coloured(images: Tensor, factors: Tensor) -> Tensor:
    """Blend with the grey image: images [N, 3, H, W], factors [N]; in place."""
    return _blended(images, grey(images), factors)


def sharpened(images: Tensor, factors: Tensor) -> Tensor:
    """Blend with the smoothed image, but for its outermost pixels: images [N, 3, H, W], factors [N]; in place."""
    if min(images.shape[-2:]) < 3:
        return images
    inner = images[..., 1:-1, 1:-1]
    lines = (images[..., :-2, :] + images[..., 1:-1, :]).add_(images[..., 2:, :])
    total = (lines[..., :-2] + lines[..., 1:-1]).add_(lines[..., 2:]).add_(inner, alpha=SMOOTH_CENTRE - 1)
    _blended(inner, total.div_(SMOOTH_SUM).round_(), factors)
    return images


def _blended(images: Tensor, others: Tensor, factors: Tensor) -> Tensor:
    """others + factor * (images - others), in place."""
    return _truncated(images.sub_(others).mul_(factors.view(-1, 1, 1, 1)).add_(others))


def _truncated(images: Tensor) -> Tensor:
    """Clamp to levels and cut off what is behind the point, in place, as Pillow's blends do."""
    return images.clamp_(0, LEVELS - 1).floor_()


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


class Warps(NamedTuple):
    """Where the pixels of B samples come from: rows of matrices (x, y, 1) -> place in a source from -1 to 1.

    through: [B, 6], into the image before the operation. between: [B, 6], into the image between two operations
    that are folded into one. is_folded: [B], whether there are two.
    """

    through: NDArray[np.float32]
    between: NDArray[np.float32]
    is_folded: NDArray[np.bool_]

    def part(self, chosen: slice) -> "Warps":
        """Those of some of the samples."""
        return Warps(self.through[chosen], self.between[chosen], self.is_folded[chosen])


class Moves(NamedTuple):
    """The part of `Warps` that moves samples, on their device: through [N, 6]; folded [F], places of those with two
    operations; between [F, 6]."""

    through: Tensor
    folded: Tensor
    between: Tensor


def warp_matrices(layer: Layer, size: tuple[int, int]) -> Floats:
    """Where each sample's pixels come from, as Pillow defines the operations.

    Args:
        layer: B draws; an operation that is not geometric moves nothing.
        size: height and width in pixels.

    Returns:
        [B, 3, 3]: (x, y, 1) of a resulting pixel, in pixels from the upper left corner -> the same in the source.
    """
    height, width = size
    operations, arguments = layer
    matrices = np.tile(np.eye(3), (len(operations), 1, 1))
    places = {
        Operation.SHEAR_X: (0, 1, 1.0),
        Operation.SHEAR_Y: (1, 0, 1.0),
        Operation.TRANSLATE_X: (0, 2, width),
        Operation.TRANSLATE_Y: (1, 2, height),
    }
    for operation, (row, column, unit) in places.items():
        is_it = operations == operation
        matrices[is_it, row, column] = arguments[is_it] * unit
    is_rotated = operations == Operation.ROTATE
    matrices[is_rotated] = _rotations(np.radians(arguments[is_rotated]), width / 2, height / 2)
    return matrices


def _rotations(angles: Floats, x: float, y: float) -> Floats:
    """angles: [N] in radians, against the clock -> [N, 3, 3] around (x, y)."""
    cosine, sine, zero = np.cos(angles), np.sin(angles), np.zeros_like(angles)
    rows = (
        (cosine, -sine, x - cosine * x + sine * y),
        (sine, cosine, y - sine * x - cosine * y),
        (zero, zero, zero + 1),
    )
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=1)


def draw_warps(layers: Sequence[Layer], size: tuple[int, int]) -> list[tuple[Layer, Warps]]:
    """Matrices for each layer; two geometric operations that follow each other are folded into the second one.

    Args:
        layers: draws for B samples.
        size: height and width of the images.

    Returns:
        The layers and their `Warps`; where two are folded, the first layer has none and the second a rotation.
    """
    operations = np.stack([layer.operations for layer in layers])
    matrices = np.stack([warp_matrices(layer, size) for layer in layers])
    between, is_folded = matrices.copy(), np.zeros(operations.shape, bool)
    for before, after in pairwise(range(len(layers))):
        is_geometric = (operations[[before, after]] >= Operation.ROTATE).all(axis=0)
        both = is_folded[after] = is_geometric & ~is_folded[before]
        matrices[after, both] = matrices[before, both] @ matrices[after, both]
        operations[before, both], operations[after, both] = Operation.NONE, Operation.ROTATE
    warps = map(Warps, _in_grid(matrices, size), _in_grid(between, size), is_folded)
    kept = (Layer(chosen, layer.arguments) for chosen, layer in zip(operations, layers, strict=True))
    return list(zip(kept, warps, strict=True))


def _in_grid(matrices: Floats, size: tuple[int, int]) -> NDArray[np.float32]:
    """matrices: [L, B, 3, 3] in pixels -> [L, B, 6]: the same, into a source that reaches from -1 to 1."""
    to_grid = np.array([[2 / size[1], 0, -1], [0, 2 / size[0], -1], [0, 0, 1]])
    return (to_grid @ matrices)[..., :2, :].reshape(*matrices.shape[:2], 6).astype(np.float32)


def moves(warps: Warps, samples: NDArray[np.int64], device: torch.device) -> Moves:
    """The warps of some samples, [N] places in the batch, on the device."""
    folded = np.flatnonzero(warps.is_folded[samples])
    parts = (warps.through[samples], folded, warps.between[samples[folded]])
    return Moves(*(moved(part, device) for part in parts))


def warped(images: Tensor, warps: Moves, fill: Tensor, interpolation: Interpolation) -> Tensor:
    """Resample each image once; what comes from outside, of the source or of the image between, gets `fill`.

    Args:
        images: [N, 3, H, W] levels.
        warps: of these samples.
        fill: [3, 1, 1] levels.
        interpolation: 'bicubic' or 'bilinear'.

    Returns:
        [N, 3, H, W] levels.
    """
    grid = _places(warps.through, images.shape)
    is_inside = _is_inside(grid)
    if warps.folded.numel():
        kept = _is_inside(_places(warps.between, images.shape))
        is_inside.index_copy_(0, warps.folded, kept.logical_and_(is_inside.index_select(0, warps.folded)))
    shifted = F.grid_sample(images, grid, interpolation, padding_mode="border", align_corners=False)
    return filled(shifted.add_(ROUNDING), is_inside.unsqueeze(1), fill)


def _is_inside(places: Tensor) -> Tensor:
    """places: [N, H, W, 2] -> [N, H, W]."""
    x, y = places.unbind(dim=-1)
    return torch.maximum(x.abs(), y.abs()) < 1


def _places(matrices: Tensor, shape: torch.Size) -> Tensor:
    """matrices: [N, 6], shape: [..., H, W] -> [N, H, W, 2]: x and y of where each pixel comes from."""
    height, width = shape[-2:]
    x = torch.arange(width, device=matrices.device, dtype=matrices.dtype).add_(0.5)
    y = torch.arange(height, device=matrices.device, dtype=matrices.dtype).add_(0.5).unsqueeze(1)
    places = matrices.new_empty(len(matrices), height, width, 2)
    for axis in (0, 1):
        by_x, by_y, start = (matrices[:, 3 * axis + i, None, None] for i in range(3))
        # No product of matrices, which a GPU may compute with ten bits.
        torch.addcmul(by_y * y + start, by_x, x, out=places[..., axis])
    return places
