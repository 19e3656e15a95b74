"""Normalisation and random erasing, of one image in a worker or of a batch on its device, with the same numbers."""

import math
import random
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import default_collate

from deitlt.types import Normalisation

Images = Tensor | tuple[Tensor, ...]  # one image [3, H, W] or batch [B, 3, H, W]; or several views, one each

AREA = (0.02, 1 / 3)  # smallest and largest share of the image that is erased
LOG_ASPECT = (math.log(0.3), math.log(1 / 0.3))  # of height over width
ATTEMPTS = 10  # rectangles tried before nothing is erased


class Normalise:
    """Levels as normalised numbers.

    Args:
        normalisation: statistics that the result is normalised with.
        divide: whether levels are divided by 255, as timm does, or multiplied with its reciprocal, as torchvision's
            transforms of version 2 do; the last bit differs.
    """

    def __init__(self, normalisation: Normalisation, divide: bool) -> None:
        # Tensors, since a GPU would multiply with the reciprocal of a number.
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (normalisation.mean, normalisation.std))
        self.divide, self.factors = divide, torch.stack((torch.full_like(mean, 255.0), mean, std))
        self._placed: dict[torch.device, Tensor] = {}

    def __call__(self, levels: Tensor) -> Tensor:
        """levels: uint8 [B, 3, H, W], on any device -> float32 [B, 3, H, W]."""
        if levels.device not in self._placed:
            self._placed[levels.device] = self.factors.to(levels.device)
        most, mean, std = self._placed[levels.device]
        images = levels.float()
        images = images.div_(most) if self.divide else images.mul_(1 / 255)
        return images.sub_(mean).div_(std)


class Patch(NamedTuple):
    """What is erased of an image: noise [3, h, w], float32, from the row `top` and the column `left` on."""

    top: int
    left: int
    noise: Tensor


class RandomErasing:
    """Fills a random rectangle with noise, pixel by pixel; timm's `RandomErasing`, with its draws.

    Zhong et al., "Random Erasing Data Augmentation", AAAI 2020. timm's own writes into an image that is normalised
    already; here the noise is drawn for one that will be.

    Args:
        probability: that an image has such a rectangle.
    """

    def __init__(self, probability: float) -> None:
        self.probability = probability

    def draw(self, height: int, width: int) -> Patch | None:
        """The patch of an image, if it has one; its draws come from Python's and torch's global generators."""
        if random.random() > self.probability:
            return None
        for _ in range(ATTEMPTS):
            area = random.uniform(*AREA) * (height * width)
            aspect = math.exp(random.uniform(*LOG_ASPECT))
            h, w = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if h < height and w < width:
                top, left = random.randint(0, height - h), random.randint(0, width - w)
                return Patch(top, left, torch.empty(3, h, w).normal_())
        return None


class Sample(NamedTuple):
    """What travels of an image: its size, width and height; its levels, in rows of RGB; and what is erased."""

    size: tuple[int, int]
    levels: bytes
    patch: Patch | None


class Travelled(NamedTuple):
    """What travels of a batch.

    levels: uint8 [B, 3, H, W]. erased: of each erased image its row, and top, left, height and width. noise: float32,
    all patches one behind the other.
    """

    levels: Tensor
    erased: list[tuple[int, int, int, int, int]]
    noise: Tensor


@runtime_checkable
class DeferredTransform(Protocol):
    """A transform of single images whose last part is made of the whole batch on its device, without chance."""

    def in_worker(self, picture: Image.Image, /) -> Any:
        """All that is random: RGB picture -> what travels of it, uint8 where possible."""
        ...

    def collate(self, samples: list[Any], /) -> Any:
        """What travels of B pictures -> tensors, in tuples if they are several."""
        ...

    def on_device(self, travelled: Any, /) -> Images:
        """The collated batch, on its device -> [B, 3, H, W] normalised, or one such tensor a view."""
        ...


class Undeferred:
    """Any transform of a picture, with nothing left for the device.

    Args:
        transform: RGB picture -> [3, H, W], normalised, or one such tensor a view.
    """

    def __init__(self, transform: Callable[[Image.Image], Images]) -> None:
        self.in_worker = transform

    def collate(self, samples: list[Images]) -> Images:
        """B results -> [B, 3, H, W], or one such tensor a view."""
        collated = default_collate(samples)
        return collated if isinstance(collated, Tensor) else tuple(collated)

    def on_device(self, travelled: Images) -> Images:
        """The batch as it is."""
        return travelled


def deferred(transform: Callable[[Image.Image], Images] | DeferredTransform) -> DeferredTransform:
    """The transform, or one that does the same and defers nothing."""
    return transform if isinstance(transform, DeferredTransform) else Undeferred(transform)


class DeferredCompose:
    """Steps on a picture, normalisation and random erasing: called, of one image; or in three parts, of a batch.

    The parts give the same numbers bit for bit: workers send uint8 and the noise of what is erased, about a quarter of
    the bytes, and the device normalises the whole batch.

    Args:
        steps: RGB picture -> RGB picture each.
        normalise: levels -> normalised images.
        erase: random erasing; None erases nothing.
    """

    def __init__(
        self, steps: Sequence[Callable[[Any], Any]], normalise: Normalise, erase: RandomErasing | None
    ) -> None:
        self.steps, self.normalise, self.erase = list(steps), normalise, erase

    def __call__(self, picture: Image.Image) -> Tensor:
        """RGB picture -> float32 [3, H, W], normalised and erased."""
        return self.on_device(self.collate([self.in_worker(picture)]))[0]

    def in_worker(self, picture: Image.Image) -> Sample:
        """All that is random, of one picture."""
        for step in self.steps:
            picture = step(picture)
        patch = None if self.erase is None else self.erase.draw(picture.height, picture.width)
        return Sample(picture.size, picture.tobytes(), patch)

    def collate(self, samples: list[Sample]) -> Travelled:
        """The samples of B images as tensors."""
        width, height = samples[0].size
        levels = np.frombuffer(b"".join(sample.levels for sample in samples), np.uint8)
        patches = [(row, sample.patch) for row, sample in enumerate(samples) if sample.patch is not None]
        erased = [(row, patch.top, patch.left, *patch.noise.shape[1:]) for row, patch in patches]
        noise = torch.cat([patch.noise.flatten() for _, patch in patches]) if patches else torch.empty(0)
        images = np.ascontiguousarray(levels.reshape(-1, height, width, 3).transpose(0, 3, 1, 2))
        return Travelled(torch.from_numpy(images), erased, noise)

    def on_device(self, travelled: Travelled) -> Tensor:
        """The batch, normalised and erased: float32 [B, 3, H, W]."""
        images, start = self.normalise(travelled.levels), 0
        for row, top, left, height, width in travelled.erased:
            stop = start + 3 * height * width
            noise = travelled.noise[start:stop].view(3, height, width)
            images[row, :, top : top + height, left : left + width] = noise
            start = stop
        return images
