"""Random erasing of a batch: rectangles of noise, drawn as timm draws them."""

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deitlt.transforms.device_crops import ATTEMPTS, first_fitting
from deitlt.transforms.device_transfer import moved

AREA = (0.02, 1 / 3)  # smallest and largest share of the image
ASPECT = (0.3, 1 / 0.3)  # height over width


class Rectangles(NamedTuple):
    """What is erased: samples [N], their places in the batch; boxes [N, 4]: top, left, height, width."""

    samples: NDArray[np.int64]
    boxes: NDArray[np.int64]


def draw_rectangles(probability: float, size: tuple[int, int], batch: int, rng: np.random.Generator) -> Rectangles:
    """Draw at most one rectangle a sample (Zhong et al., "Random Erasing Data Augmentation", AAAI 2020).

    Args:
        probability: that a sample gets one.
        size: the images' height and width; a rectangle is smaller in both.
        batch: number of samples.
        rng: where the draws come from.
    """
    is_chosen = rng.random(batch) < probability
    area = rng.uniform(*AREA, size=(batch, ATTEMPTS)) * (size[0] * size[1])
    ratio = np.exp(rng.uniform(math.log(ASPECT[0]), math.log(ASPECT[1]), size=(batch, ATTEMPTS)))
    sides = np.rint(np.sqrt(np.stack((area * ratio, area / ratio), axis=-1))).astype(np.int64)
    chosen, has_any = first_fitting(sides, (sides >= 1) & (sides < size))
    corners = (rng.random((batch, 2)) * (np.array(size) - chosen + 1)).astype(np.int64)
    samples = np.flatnonzero(is_chosen & has_any[:, 0])
    return Rectangles(samples, np.concatenate((corners, chosen), axis=1)[samples])


def erase(images: Tensor, rectangles: Rectangles, generator: torch.Generator) -> None:
    """Fill the rectangles with standard normal noise, pixel by pixel and colour by colour, in place.

    Args:
        images: [B, 3, H, W], normalised, contiguous.
        rectangles: where.
        generator: of the noise, on the images' device.
    """
    top, left, height, width = rectangles.boxes.T
    areas = height * width
    total = int(areas.sum())
    if total == 0:
        return
    _, channels, rows, columns = images.shape
    corners = (rectangles.samples * channels * rows + top) * columns + left
    table = np.stack((corners, width, areas.cumsum() - areas, areas))
    corner, across, first, count = moved(table, images.device)
    owner = torch.repeat_interleave(count, output_size=total)
    inside, across = torch.arange(total, device=images.device).sub_(first[owner]), across[owner]
    row = torch.div(inside, across, rounding_mode="floor")
    pixels = inside.add_(row * (columns - across)).add_(corner[owner])  # row by row, in the first colour's plane
    planes = torch.arange(channels, device=images.device).mul_(rows * columns).unsqueeze(1)
    noise = torch.randn(channels * total, device=images.device, generator=generator)
    images.view(-1).scatter_(0, (pixels + planes).flatten(), noise)
