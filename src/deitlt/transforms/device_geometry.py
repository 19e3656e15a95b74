"""RandAugment's geometric operations, for parts of a batch: one grid and one resampling."""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from deitlt.transforms.device_policy import Floats, Layer, Operation
from deitlt.transforms.device_slides import filled
from deitlt.transforms.device_transfer import moved
from deitlt.transforms.resampling import ROUNDING, Interpolation


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
