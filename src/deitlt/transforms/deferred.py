"""Normalisation and random erasing, of one image in a worker or of a batch on its device, with the same numbers."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import default_collate

from deitlt.types import Normalisation

LEVELS = 256
Rectangle = tuple[int, int, int, int]  # top, left, height, width
Travelled = tuple[Tensor, list[tuple[int, Rectangle]], Tensor]


class Normalise:
    """Levels as normalised numbers, through a table: each of the 256 levels is computed once.

    Args:
        normalisation: statistics that the result is normalised with.
        divide: whether levels are divided by 255, as timm does, or multiplied with its reciprocal, as torchvision's
            transforms of version 2 do; the last bit differs.
    """

    def __init__(self, normalisation: Normalisation, divide: bool) -> None:
        levels = torch.arange(LEVELS, dtype=torch.float32)
        mean, std = (torch.tensor(values).unsqueeze(1) for values in (normalisation.mean, normalisation.std))
        scaled = levels / (LEVELS - 1) if divide else levels * (1 / (LEVELS - 1))
        self.table = ((scaled - mean) / std).numpy()  # [3, 256]
        self._placed: dict[torch.device, Tensor] = {}

    def __call__(self, picture: Image.Image) -> Tensor:
        """picture: RGB, H x W -> float32 [3, H, W]."""
        return _looked_up(self.table, np.asarray(picture).transpose(2, 0, 1)[None])[0]

    def batch(self, levels: Tensor) -> Tensor:
        """levels: uint8 [B, 3, H, W], on any device -> float32 [B, 3, H, W]."""
        if levels.device.type == "cpu":
            return _looked_up(self.table, levels.numpy())
        if levels.device not in self._placed:
            self._placed[levels.device] = torch.from_numpy(self.table).flatten().to(levels.device)
        entries = levels.int() + LEVELS * torch.arange(3, dtype=torch.int32, device=levels.device).view(3, 1, 1)
        return self._placed[levels.device].index_select(0, entries.flatten()).view(levels.shape)


class Sample(NamedTuple):
    """What travels of an image.

    levels: uint8 [H, W, 3]. erased: the rectangle that is erased, or None. noise: float32 [3, h, w], what fills it.
    """

    levels: npt.NDArray[np.uint8]
    erased: Rectangle | None
    noise: Tensor | None


class DeferredCompose:
    """Steps on a picture, normalisation and random erasing: called, of one image; or in three parts, of a batch.

    The parts give the same numbers bit for bit: workers send uint8 and the noise of what is erased, about a quarter of
    the bytes, and the device normalises the whole batch.

    Args:
        steps: RGB picture -> RGB picture each.
        normalise: picture -> [3, H, W].
        erase: timm's random erasing, in place, of one image [3, H, W]; None erases nothing.
    """

    def __init__(
        self, steps: Sequence[Callable[[Any], Any]], normalise: Normalise, erase: Callable[[Any], Any] | None
    ) -> None:
        self.steps, self.normalise, self.erase = list(steps), normalise, erase
        self.transforms: list[Callable[[Any], Any]] = (
            [*steps, normalise] if erase is None else [*steps, normalise, erase]
        )

    def __call__(self, picture: Image.Image) -> Tensor:
        """RGB picture -> float32 [3, H, W], normalised and erased."""
        image: Any = picture
        for transform in self.transforms:
            image = transform(image)
        result: Tensor = image
        return result

    def in_worker(self, picture: Image.Image) -> Sample:
        """All that is random, of one picture."""
        for step in self.steps:
            picture = step(picture)
        levels = np.array(picture)
        if self.erase is None:
            return Sample(levels, None, None)
        canvas = torch.full((3, *levels.shape[:2]), math.nan)
        self.erase(canvas)  # what is no longer NaN was erased
        filled = ~canvas[0].isnan()
        rows, columns = filled.any(1).nonzero().flatten(), filled.any(0).nonzero().flatten()
        if not len(rows):
            return Sample(levels, None, None)
        top, left, height, width = int(rows[0]), int(columns[0]), len(rows), len(columns)
        noise = canvas[:, top : top + height, left : left + width].clone()
        return Sample(levels, (top, left, height, width), noise)

    def collate(self, samples: list[Sample]) -> Travelled:
        """Levels uint8 [B, 3, H, W]; row and rectangle of each erased image; their noise, one behind the other."""
        levels: Tensor = default_collate([torch.from_numpy(sample.levels).permute(2, 0, 1) for sample in samples])
        erased = [(row, sample.erased) for row, sample in enumerate(samples) if sample.erased is not None]
        noise = [sample.noise.flatten() for sample in samples if sample.noise is not None]
        return levels.contiguous(), erased, torch.cat(noise) if noise else torch.empty(0)

    def on_device(self, travelled: Travelled) -> Tensor:
        """The batch, normalised and erased: float32 [B, 3, H, W]."""
        levels, erased, noise = travelled
        images, start = self.normalise.batch(levels), 0
        for row, (top, left, height, width) in erased:
            stop = start + 3 * height * width
            images[row, :, top : top + height, left : left + width] = noise[start:stop].view(3, height, width)
            start = stop
        return images


def _looked_up(table: npt.NDArray[np.float32], levels: npt.NDArray[np.uint8]) -> Tensor:
    """levels: [B, 3, H, W] -> the table's entries, float32 [B, 3, H, W]."""
    found = np.empty(levels.shape, np.float32)
    for channel, entries in enumerate(table):
        for row in range(len(levels)):
            np.take(entries, levels[row, channel], out=found[row, channel], mode="clip")
    return torch.from_numpy(found)
