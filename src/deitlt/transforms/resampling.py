"""Crops of a whole batch, resampled as Pillow does it, by two products of matrices."""

from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Interpolation = Literal["bicubic", "bilinear"]
Floats = NDArray[np.float64]

SUPPORT = {"bicubic": 2.0, "bilinear": 1.0}  # source pixels to each side, where an image is not made smaller
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
