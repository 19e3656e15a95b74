"""RandAugment's operations on colours, for parts of a batch, in Pillow's arithmetic."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deitlt.transforms.device_policy import Operation

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
