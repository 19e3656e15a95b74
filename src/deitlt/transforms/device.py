"""The training views of a whole batch, made on its device with draws for each sample."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np
import torch
from numpy.typing import NDArray
from PIL.Image import Image
from torch import Tensor

from deitlt.errors import ConfigError
from deitlt.transforms.crops import Crop, random_crop
from deitlt.transforms.device_crops import crop_axes
from deitlt.transforms.device_draws import ViewDraws
from deitlt.transforms.device_erasing import draw_rectangles, erase
from deitlt.transforms.device_policy import parse_policy
from deitlt.transforms.device_rand_augment import BatchRandAugment
from deitlt.transforms.device_transfer import moved
from deitlt.transforms.limits import check_areas, check_probabilities
from deitlt.transforms.resampling import Interpolation, resample
from deitlt.types import Normalisation

WHERE = "student.views.train"
CACHED = 2**22  # numbers that a processor works on at a time


@dataclass(frozen=True)
class DeviceView:
    """Crop, flip, RandAugment, normalisation and erasing of a batch; the distribution is that of `student_view`.

    All draws come from the generator that is handed in, on the host; so a view depends on it alone, whatever the
    device, but for the noise of erasing, whose stream each kind of device has for itself. The host never waits for
    the device.

    What differs from Pillow's and timm's, at the same draws:

    - Crops, and all operations but Rotate, differ by rounding alone: by one level of 255 at most, mostly by none.
    - Rotate interpolates with torch's cubic kernel (a = -0.75), where Pillow rotates with a = -1: a little less
      sharp. What lies outside gets the same colour at the same pixels, and pixels at the border are repeated alike.
    - Two geometric operations after each other are folded into one matrix and resampled once, as Rotate is, where
      timm resamples twice; what the first of them would have moved out of the image is lost as well.
    - To keep 0 bits (Posterize at the highest strength) gives black, as with Pillow before 13, which refuses it.
    - `unscaled` augments images before the crop scales them: another distribution, not timm's.

    Args:
        image_size: pixels S a side of the result.
        normalisation: statistics that the result is normalised with.
        crop: 'resized', 'padded' or 'simple', as in `random_crop`.
        scale: smallest and largest share of the area that a resized crop takes.
        padding: pixels on each side before a padded or simple crop.
        flip: probability of a horizontal flip.
        augment: what happens to colours and shapes, or None for nothing.
        erasing: probability of filling a random rectangle with noise, pixel by pixel.
        interpolation: 'bicubic' or 'bilinear'.
        unscaled: augment the images at their own size.
        where: the view's node in the configuration, for errors.
    """

    image_size: int
    normalisation: Normalisation
    crop: Crop = "resized"
    scale: tuple[float, float] = (0.08, 1.0)
    padding: int = 4
    flip: float = 0.5
    augment: BatchRandAugment | None = None
    erasing: float = 0.0
    interpolation: Interpolation = "bicubic"
    unscaled: bool = False
    where: str = WHERE

    @torch.no_grad()
    def __call__(self, images: Tensor, rng: np.random.Generator, cropped: bool = False) -> Tensor:
        """Make one view of each image.

        Args:
            images: uint8 [B, 3, H, W], on any device.
            rng: where this batch's draws come from.
            cropped: the images are crops of S pixels already, made by `worker_crop`; they are not cropped again.

        Returns:
            float32 [B, 3, S, S], normalised, on the same device.

        Raises:
            ConfigError: with `cropped` where the view is to augment before it crops.
        """
        assert images.dtype == torch.uint8, f"a view is made of levels, not of {images.dtype}"
        if cropped:
            self._refuse_crops()
        draws = self._draw(images, rng, cropped)
        views = _empty((len(images), 3, self.image_size, self.image_size), images.device)
        with torch.autocast(images.device.type, enabled=False):  # whose short numbers would not hold a level
            for part in self._parts(images):
                self._normalise(self._levels(images[part], draws.part(part)), views[part])
        return self._erased(views, rng)

    def worker_crop(self) -> Callable[[Image], Image]:
        """This view's crop, for one picture in a worker; its draws come from torch's and Python's global streams.

        Raises:
            ConfigError: the view is to augment before it crops.
        """
        self._refuse_crops()
        return random_crop(self.where, self.crop, self.image_size, self.scale, self.padding, self.interpolation)

    def _refuse_crops(self) -> None:
        if self.unscaled:
            raise ConfigError(
                f"{self.where}.unscaled=true augments images before they are cropped, but files of many sizes come "
                f"cropped; type {self.where}.unscaled=false, or data.resident=true for files of one size."
            )

    def _draw(self, images: Tensor, rng: np.random.Generator, cropped: bool) -> ViewDraws:
        batch, source, side = len(images), (images.shape[-2], images.shape[-1]), (self.image_size, self.image_size)
        assert source == side or not cropped, "no crop of this view's size"
        flipped = rng.random(batch) < self.flip
        axes = None
        if not cropped:
            drawn = crop_axes(self.crop, source, self.image_size, self.scale, self.padding, flipped, rng)
            axes = np.stack([axis.packed() for axis in drawn])
        layers = [] if self.augment is None else self.augment.draw(batch, source if self.unscaled else side, rng)
        return ViewDraws(flipped, axes, layers)

    def _parts(self, images: Tensor) -> list[slice]:
        """The batch at once; or, where a processor's cache is what counts, in parts that fit into it."""
        most = len(images) if images.device.type != "cpu" else max(1, CACHED // (3 * self.image_size**2))
        return [slice(first, first + most) for first in range(0, len(images), max(1, most))]

    def _levels(self, images: Tensor, draws: ViewDraws) -> Tensor:
        """[B, 3, S, S] float32 levels, augmented."""
        if draws.axes is None:
            levels = _mirrored(images.contiguous().float(), draws.flipped)
            return levels if self.augment is None else self.augment(levels, draws.layers)
        axes = moved(draws.axes, images.device)
        if self.augment is None:
            return resample(images, axes, self.interpolation)
        if self.unscaled:
            images = self.augment(images.contiguous().float(), draws.layers)
            return resample(images, axes, self.interpolation)
        return self.augment(resample(images, axes, self.interpolation), draws.layers)

    def _normalise(self, levels: Tensor, views: Tensor) -> None:
        """Levels to normalised views, both [B, 3, S, S]; written into the views."""
        mean, std = np.array(self.normalisation.mean), np.array(self.normalisation.std)
        factors = np.stack((1 / (255 * std), -mean / std)).astype(np.float32)
        scale, offset = moved(factors, levels.device).view(2, 3, 1, 1)
        torch.mul(levels, scale, out=views).add_(offset)

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


def device_view(
    image_size: int,
    normalisation: Normalisation,
    crop: Crop = "resized",
    scale: Sequence[float] = (0.08, 1.0),
    padding: int = 4,
    flip: float = 0.5,
    rand_augment: str | None = "rand-m9-mstd0.5-inc1",
    erasing: float = 0.25,
    interpolation: Interpolation = "bicubic",
    unscaled: bool = False,
    where: str = WHERE,
) -> DeviceView:
    """DeiT's strong view of whole batches, or a weak one; options as in `student_view`, and checked.

    Args:
        image_size: pixels a side of the result.
        normalisation: statistics that the result is normalised with.
        crop: 'resized', 'padded' or 'simple', as in `random_crop`.
        scale: smallest and largest share of the area that a resized crop takes.
        padding: pixels on each side before a padded or simple crop.
        flip: probability of a horizontal flip; 0 where left and right mean something, as in digits.
        rand_augment: timm's description of RandAugment, or None for none.
        erasing: probability of filling a random rectangle with noise, pixel by pixel.
        interpolation: 'bicubic' or 'bilinear'.
        unscaled: augment images before they are scaled: faster where they are small, and another distribution.
        where: the view's node in the configuration, for errors.

    Raises:
        ConfigError: an option that cannot be.
    """
    check_areas(where, scale=scale)
    check_probabilities(where, flip=flip, erasing=erasing)
    if interpolation not in get_args(Interpolation):
        raise ConfigError(
            f"{where}.interpolation={interpolation} is none that views on the device have; type =bicubic or =bilinear."
        )
    span = (float(scale[0]), float(scale[1]))
    random_crop(where, crop, image_size, span, padding, interpolation)  # which checks crop and padding
    augment = None
    if rand_augment is not None:
        red, green, blue = (min(255, round(255 * mean)) for mean in normalisation.mean)
        augment = BatchRandAugment(parse_policy(where, rand_augment), (red, green, blue), interpolation)
    return DeviceView(
        image_size, normalisation, crop, span, padding, flip, augment, erasing, interpolation, unscaled, where
    )
