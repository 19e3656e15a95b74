"""Transforms of a whole batch, made on its device with draws for each sample."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Unpack

import numpy as np
import torch
from numpy.typing import NDArray
from PIL.Image import Image
from torch import Tensor

from deitlt.transforms.batch_crops import ATTEMPTS, crop_axes, first_fitting, moved, resample
from deitlt.transforms.image import STUDENT, CropFlip, CropOptions
from deitlt.transforms.operations import Layer, Warps
from deitlt.transforms.randaugment import BatchRandAugment, parse_policy
from deitlt.types import Normalisation

CACHED = 2**22  # numbers that a processor works on at a time
AREA = (0.02, 1 / 3)  # smallest and largest share of the image that is erased
ASPECT = (0.3, 1 / 0.3)  # height over width of what is erased


class Draws(NamedTuple):
    """The draws of B samples, but for erasing.

    flipped: [B], whether a sample is mirrored. axes: [2, B, S + 3], rows and columns of the crops as a packed `Axis`
    each; None for samples that come cropped. layers: RandAugment's, if any.
    """

    flipped: NDArray[np.bool_]
    axes: NDArray[np.float32] | None
    layers: list[tuple[Layer, Warps]]

    def part(self, chosen: slice) -> "Draws":
        """The draws of some of the samples."""
        axes = None if self.axes is None else self.axes[:, chosen]
        layers = [(layer.part(chosen), warps.part(chosen)) for layer, warps in self.layers]
        return Draws(self.flipped[chosen], axes, layers)


@dataclass(frozen=True)
class BatchTransform:
    """Crop, flip, RandAugment, normalisation and erasing of a batch; `student_transform`'s distribution.

    All draws come from the generator that is handed in, on the host; so the result depends on it alone, whatever
    the device, but for the noise of erasing, whose generator each kind of device has for itself. The host never
    waits for the device.

    What differs from Pillow's and timm's, at the same draws:

    - Crops, and all operations but Rotate, differ by rounding alone: by one level of 255 at most, mostly by none.
    - Rotate interpolates with torch's cubic kernel (a = -0.75), where Pillow rotates with a = -1: a little less
      sharp. What lies outside gets the same colour at the same pixels, and pixels at the border are repeated alike.
    - Two geometric operations after each other are folded into one matrix and resampled once, as Rotate is, where
      timm resamples twice; what the first of them would have moved out of the image is lost as well.
    - To keep 0 bits (Posterize at the highest strength) gives black, as with Pillow before 13, which refuses it.

    Args:
        image_size: pixels S a side of the result.
        normalisation: statistics that the result is normalised with.
        begin: crop and flip.
        augment: what happens to colours and shapes, or None for nothing.
        erasing: probability of filling a random rectangle with noise, pixel by pixel.
    """

    image_size: int
    normalisation: Normalisation
    begin: CropFlip
    augment: BatchRandAugment | None = None
    erasing: float = 0.0

    @torch.no_grad()
    def __call__(self, images: Tensor, rng: np.random.Generator, cropped: bool = False) -> Tensor:
        """Transform each image of a batch.

        Args:
            images: uint8 [B, 3, H, W], on any device.
            rng: where this batch's draws come from.
            cropped: the images are crops of S pixels already, made by `worker_crop`; they are not cropped again.

        Returns:
            float32 [B, 3, S, S], normalised, on the same device.
        """
        assert images.dtype == torch.uint8, f"levels are expected, not {images.dtype}"
        draws = self._draw(images, rng, cropped)
        out = _empty((len(images), 3, self.image_size, self.image_size), images.device)
        with torch.autocast(images.device.type, enabled=False):  # whose short numbers would not hold a level
            for part in self._parts(images):
                self._normalise(self._levels(images[part], draws.part(part)), out[part])
        return self._erased(out, rng)

    def worker_crop(self) -> Callable[[Image], Image]:
        """The crop, for one picture in a worker; its draws come from torch's global generator."""
        return self.begin.random_crop(self.image_size)

    def _draw(self, images: Tensor, rng: np.random.Generator, cropped: bool) -> Draws:
        batch, source, side = len(images), (images.shape[-2], images.shape[-1]), (self.image_size, self.image_size)
        assert source == side or not cropped, "no crop of this transform's size"
        flipped = rng.random(batch) < self.begin.flip
        axes = None
        if not cropped:
            drawn = crop_axes(self.begin, source, self.image_size, flipped, rng)
            axes = np.stack([axis.packed() for axis in drawn])
        layers = [] if self.augment is None else self.augment.draw(batch, side, rng)
        return Draws(flipped, axes, layers)

    def _parts(self, images: Tensor) -> list[slice]:
        """The batch at once; or, where a processor's cache is what counts, in parts that fit into it."""
        most = len(images) if images.device.type != "cpu" else max(1, CACHED // (3 * self.image_size**2))
        return [slice(first, first + most) for first in range(0, len(images), max(1, most))]

    def _levels(self, images: Tensor, draws: Draws) -> Tensor:
        """[B, 3, S, S] float32 levels, augmented."""
        if draws.axes is None:
            levels = _mirrored(images.contiguous().float(), draws.flipped)
        else:
            levels = resample(images, moved(draws.axes, images.device), self.begin.interpolation)
        return levels if self.augment is None else self.augment(levels, draws.layers)

    def _normalise(self, levels: Tensor, out: Tensor) -> None:
        """Levels to normalised images, both [B, 3, S, S]; written into `out`."""
        mean, std = np.array(self.normalisation.mean), np.array(self.normalisation.std)
        factors = np.stack((1 / (255 * std), -mean / std)).astype(np.float32)
        scale, offset = moved(factors, levels.device).view(2, 3, 1, 1)
        torch.mul(levels, scale, out=out).add_(offset)

    def _erased(self, images: Tensor, rng: np.random.Generator) -> Tensor:
        if self.erasing == 0:
            return images
        size = (self.image_size, self.image_size)
        rectangles = draw_rectangles(self.erasing, size, len(images), rng)
        noise = torch.Generator(images.device).manual_seed(int(rng.integers(2**63)))
        erase(images, rectangles, noise)
        return images


def _empty(shape: tuple[int, ...], device: torch.device) -> Tensor:
    """Memory for float32; on a processor from NumPy, which asks for large pages: the first write is thrice as fast."""
    if device.type == "cpu":
        return torch.from_numpy(np.empty(shape, np.float32))
    return torch.empty(shape, device=device)


def _mirrored(levels: Tensor, flipped: NDArray[np.bool_]) -> Tensor:
    """levels: [B, 3, S, S], flipped: [B] -> the same with some mirrored from left to right, in place."""
    if flipped.any():
        samples = moved(np.flatnonzero(flipped), levels.device)
        levels.index_copy_(0, samples, levels.index_select(0, samples).flip(-1))
    return levels


def batch_transform(
    image_size: int,
    normalisation: Normalisation,
    rand_augment: str | None = "rand-m9-mstd0.5-inc1",
    erasing: float = 0.25,
    where: str = STUDENT,
    **crop: Unpack[CropOptions],
) -> BatchTransform:
    """DeiT's strong transform of whole batches, or a weak one; options as in `student_transform`, and checked.

    Args:
        image_size: pixels a side of the result.
        normalisation: statistics that the result is normalised with.
        rand_augment: timm's description of RandAugment, or None for none.
        erasing: probability of filling a random rectangle with noise, pixel by pixel.
        where: the transform's node in the configuration, for errors.
        crop: as in `CropFlip`.

    Raises:
        ConfigError: an option that cannot be.
    """
    begin = CropFlip(**crop)
    begin.check(image_size, where)
    augment = None
    if rand_augment is not None:
        red, green, blue = (min(255, round(255 * mean)) for mean in normalisation.mean)
        augment = BatchRandAugment(parse_policy(where, rand_augment), (red, green, blue), begin.interpolation)
    return BatchTransform(image_size, normalisation, begin, augment, erasing)


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
