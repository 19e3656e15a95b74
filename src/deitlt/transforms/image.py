"""Transforms of one image, made in a worker: one builder, and the transforms of the recipes, made by it.

Each function takes `image_size`, the pixels S a side of the result, `normalisation`, its statistics, and options of
its own; it raises ConfigError for options that do not fit the image, and returns a function from an RGB picture to
float32 [3, S, S]. That draws from Python's, NumPy's and torch's global generators, which the data set seeds for each
image.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypedDict, Unpack

import torch
from PIL import Image
from timm.data.auto_augment import RandAugment, rand_augment_transform
from timm.data.auto_augment import auto_augment_transform as timm_auto_augment
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.data.transforms import RandomResizedCropAndInterpolation
from timm.data.transforms_factory import create_transform
from torch import Tensor
from torchvision import transforms
from torchvision.transforms import v2

from deitlt.errors import ConfigError
from deitlt.transforms.deferred import DeferredCompose, Normalise, RandomErasing
from deitlt.types import Normalisation

Crop = Literal["resized", "padded", "simple"]
ImageTransform = Callable[[Image.Image], Tensor]  # -> [3, H, W], normalised
Interpolation = Literal["bicubic", "bilinear", "nearest"]
Step = Callable[[Any], Any]  # picture -> picture

IMAGENET = Normalisation(mean=IMAGENET_DEFAULT_MEAN, std=IMAGENET_DEFAULT_STD)
STUDENT, TEACHER = "student.transforms.train", "teacher.transforms.train"  # where options are typed, for errors
GREY = 128  # of pixels that AutoAugment moves in from outside
BLUR_KERNEL = 13  # pixels: three standard deviations to each side of the strongest blur
BLUR_SIGMA = (0.1, 2.0)  # pixels
MIRRORED = Image.Transpose.FLIP_LEFT_RIGHT
_timm_crop: Callable[..., Step] = RandomResizedCropAndInterpolation


class CropOptions(TypedDict, total=False):
    """The options that all transforms share; their meaning and defaults are in `CropFlip`."""

    crop: Crop
    scale: Sequence[float]
    padding: int
    flip: float
    interpolation: Interpolation


@dataclass(frozen=True)
class CropFlip:
    """How a training transform begins: a random crop and a random flip.

    Args:
        crop: 'resized' scales a random part of the image (Szegedy et al., CVPR 2015). 'padded' squashes the whole
            image to a square, pads it with black and shifts it, for small images that a narrow crop would ruin.
            'simple' keeps its shape, scales the shorter side and pads by reflection (Touvron et al., ECCV 2022).
        scale: smallest and largest share of the area that a resized crop takes.
        padding: pixels on each side before a padded or simple crop.
        flip: probability of a horizontal flip; 0 where left and right mean something, as in digits.
        interpolation: how pixels are resampled: 'bicubic', 'bilinear' or 'nearest'.
    """

    crop: Crop = "resized"
    scale: Sequence[float] = (0.08, 1.0)
    padding: int = 4
    flip: float = 0.5
    interpolation: Interpolation = "bicubic"

    def check(self, image_size: int, where: str) -> None:
        """Raise ConfigError where an option cannot be; `where` is the node of the configuration that has it."""
        check_area(where, "scale", self.scale)
        if self.crop != "resized" and self.padding >= image_size:
            raise ConfigError(
                f"{where}.padding={self.padding} must be below the image's {image_size} pixels; "
                f"type {where}.padding={image_size // 8}, say."
            )

    def random_crop(self, image_size: int) -> Step:
        """The crop to [image_size, image_size]; its draws come from torch's generator."""
        mode = transforms.InterpolationMode(self.interpolation)
        if self.crop == "resized":
            part: Step = transforms.RandomResizedCrop(image_size, (self.scale[0], self.scale[1]), interpolation=mode)
            return part
        simple = self.crop == "simple"
        resize = transforms.Resize(image_size if simple else (image_size, image_size), mode)
        shift = transforms.RandomCrop(image_size, self.padding, padding_mode="reflect" if simple else "constant")
        shifted: Step = transforms.Compose([resize, shift])
        return shifted

    def timm_steps(self, image_size: int) -> list[Step]:
        """Crop and flip as timm has them: a resized crop draws from Python's generator, no flip draws nothing."""
        if self.crop == "resized":
            scale = (self.scale[0], self.scale[1])
            crop = _timm_crop(image_size, scale=scale, interpolation=self.interpolation)
        else:
            crop = self._picture_crop(image_size)
        return [crop, Flip(self.flip)] if self.flip else [crop]

    def torchvision_steps(self, image_size: int) -> list[Step]:
        """Crop and flip as torchvision has them."""
        return [self._picture_crop(image_size), Flip(self.flip)]

    def _picture_crop(self, image_size: int) -> Step:
        """`random_crop` of pictures alone."""
        if self.crop == "padded":
            return PaddedCrop(image_size, self.padding, self.interpolation)
        return self.random_crop(image_size)


class PaddedCrop:
    """Scales a picture to a square, pads it with black and shifts it: torchvision's `Resize` and `RandomCrop` in one.

    Its draws are theirs, in a fifth of their time: nothing is padded, for a crop beyond the border is black.

    Args:
        image_size: pixels a side of the square and of the result.
        padding: black pixels on each side.
        interpolation: how pixels are resampled.
    """

    def __init__(self, image_size: int, padding: int, interpolation: Interpolation) -> None:
        self.size, self.padding = (image_size, image_size), padding
        self.resampling = Image.Resampling[interpolation.upper()]

    def __call__(self, picture: Image.Image) -> Image.Image:
        """The RGB picture, `image_size` pixels a side."""
        if picture.size != self.size:
            picture = picture.resize(self.size, self.resampling)
        if not self.padding:
            return picture
        down, right = torch.randint(2 * self.padding + 1, (2,)).tolist()
        left, top = right - self.padding, down - self.padding
        return picture.crop((left, top, left + self.size[0], top + self.size[1]))


class Flip:
    """Mirrors a picture from left to right now and then: torchvision's `RandomHorizontalFlip`, with its draw."""

    def __init__(self, probability: float) -> None:
        self.probability = torch.tensor(probability).item()  # as a float32, which the draw is

    def __call__(self, picture: Image.Image) -> Image.Image:
        """The picture, or its mirror image."""
        return picture.transpose(MIRRORED) if torch.rand(1).item() < self.probability else picture


class Cutout:
    """Blackens one square of each picture (DeVries and Taylor, 2017, section 3.2).

    The square's centre is uniform over the pixels, so that up to three quarters of the square may lie outside.

    Args:
        share: the square's side as a share of the image's side: 0.5 is 16 pixels of 32. 0 blackens nothing.
    """

    def __init__(self, share: float) -> None:
        self.share = share

    def __call__(self, picture: Image.Image) -> Image.Image:
        """A copy of the RGB picture with the square at 0, which is black."""
        top, bottom = self._span(picture.height)
        left, right = self._span(picture.width)
        cut = picture.copy()
        cut.paste((0, 0, 0), (left, top, right, bottom))
        return cut

    def _span(self, side: int) -> tuple[int, int]:
        half = round(self.share * side / 2)
        centre = int(torch.randint(side, ()))
        return max(centre - half, 0), min(centre + half, side)


def image_transform(
    steps: Sequence[Step], normalisation: Normalisation, erasing: float = 0.0, divide: bool = False
) -> ImageTransform:
    """The builder: steps on the picture, then normalisation, then random erasing.

    Args:
        steps: RGB picture -> RGB picture each, crop and flip first.
        normalisation: statistics that the result is normalised with.
        erasing: probability of filling a random rectangle with noise, pixel by pixel (Zhong et al., AAAI 2020).
        divide: as in `Normalise`.

    Returns:
        A function from a picture to float32 [3, H, W], whose normalisation a batch may have on its device.
    """
    return DeferredCompose(steps, Normalise(normalisation, divide), RandomErasing(erasing) if erasing else None)


def student_transform(
    image_size: int,
    normalisation: Normalisation,
    rand_augment: str | None = "rand-m9-mstd0.5-inc1",
    erasing: float = 0.25,
    **crop: Unpack[CropOptions],
) -> ImageTransform:
    """Crop, flip, RandAugment, normalisation and erasing, as timm has them (DeiT: Touvron et al., 2021, table 9).

    Args:
        rand_augment: timm's description of RandAugment, or None for none.
        erasing: probability of filling a random rectangle with noise, pixel by pixel.
        crop: as in `CropFlip`.
    """
    begin = CropFlip(**crop)
    begin.check(image_size, STUDENT)
    steps = begin.timm_steps(image_size)
    if rand_augment is None:
        steps.append(transforms.ColorJitter())  # which changes nothing, but draws, as in timm's transforms
    else:
        hparams = _augment_hparams(image_size, normalisation, begin.interpolation)
        steps.append(described_rand_augment(STUDENT, rand_augment, hparams))
    return image_transform(steps, normalisation, erasing, divide=True)


def three_augment_transform(
    image_size: int,
    normalisation: Normalisation,
    jitter: float = 0.3,
    erasing: float = 0.0,
    rand_augment: str | None = None,
    **crop: Unpack[CropOptions],
) -> ImageTransform:
    """Crop, flip, one of (grey, solarised, blurred) with equal chances, then a change of colours.

    Touvron et al., "DeiT III: Revenge of the ViT", ECCV 2022, section 3.2 and figure 4; solarised from 128 on,
    blurred by .1 to 2 pixels. With 'simple' for ImageNet-21k, 'resized' for ImageNet-1k.

    Args:
        jitter: strength of the change of brightness, contrast and saturation.
        erasing: probability of filling a random rectangle with noise, pixel by pixel.
        rand_augment: taken since recipes set it for `student_transform`, and not used: the three stand in its place.
        crop: as in `CropFlip`.
    """
    begin = CropFlip(**crop)
    begin.check(image_size, STUDENT)
    three = timm_auto_augment("3a", _augment_hparams(image_size, normalisation, begin.interpolation))
    colours = transforms.ColorJitter(jitter, jitter, jitter)
    return image_transform([*begin.timm_steps(image_size), three, colours], normalisation, erasing, divide=True)


def weak_transform(
    image_size: int, normalisation: Normalisation, padding: int = 4, flip: float = 0.5
) -> ImageTransform:
    """The picture scaled to `image_size`, padded with black, cropped at random and flipped (He et al., 2016).

    The teacher sees nothing stronger, so that the student's images lie outside its distribution (DeiT-LT,
    section 3.1).

    Args:
        padding: black pixels on each side before the crop.
        flip: probability of a horizontal flip.
    """
    begin = CropFlip("padded", padding=padding, flip=flip)
    begin.check(image_size, TEACHER)
    return image_transform(begin.torchvision_steps(image_size), normalisation)


def imagenet_transform(
    image_size: int,
    normalisation: Normalisation,
    jitter: float = 0.4,
    rand_augment: str | None = None,
    **crop: Unpack[CropOptions],
) -> ImageTransform:
    """Of CNN teachers of large images: a random part, scaled; flipped; colours changed; then RandAugment.

    Without RandAugment it is the transform of LDAM's teachers (Rangwani et al., 2022), with it the first of PaCo's
    (Cui et al., ICCV 2021), whose colours change before RandAugment.

    Args:
        jitter: strength of the change of brightness, contrast and saturation; the hue stays.
        rand_augment: timm's description of RandAugment, or None for none.
        crop: as in `CropFlip`, but bilinear unless it is said.
    """
    begin = replace(CropFlip(interpolation="bilinear"), **crop)
    begin.check(image_size, TEACHER)
    steps = [*begin.torchvision_steps(image_size), transforms.ColorJitter(jitter, jitter, jitter)]
    if rand_augment is not None:
        # Each operation is bilinear or bicubic by chance, as in PaCo's code.
        hparams = _augment_hparams(image_size, normalisation, None)
        steps.append(described_rand_augment(TEACHER, rand_augment, hparams))
    return image_transform(steps, normalisation)


def simclr_transform(
    image_size: int,
    normalisation: Normalisation,
    jitter: Sequence[float] = (0.4, 0.4, 0.4, 0.1),
    jitter_probability: float = 0.8,
    grayscale: float = 0.2,
    blur: float = 0.0,
    **crop: Unpack[CropOptions],
) -> ImageTransform:
    """Chen et al., "A Simple Framework for Contrastive Learning", ICML 2020, appendix A; the second of PaCo's views.

    PaCo's strengths of jitter are milder than SimCLR's own.

    Args:
        jitter: strengths of the change of brightness, contrast, saturation and hue.
        jitter_probability: probability of such a change.
        grayscale: probability of losing all colour.
        blur: probability of a Gaussian blur, of .1 to 2 pixels; for images of 8 pixels or more.
        crop: as in `CropFlip`, but bilinear and of a fifth of the area or more unless it is said.
    """
    where = f"{TEACHER}.second"
    begin = replace(CropFlip(scale=(0.2, 1.0), interpolation="bilinear"), **crop)
    begin.check(image_size, where)
    if len(jitter) != 4 or not all(0 <= strength <= 1 for strength in jitter) or jitter[3] > 0.5:
        raise ConfigError(
            f"{where}.jitter={list(jitter)} cannot be; type strengths of brightness, contrast and saturation from 0 "
            "to 1, and of hue from 0 to 0.5."
        )
    steps = [
        *begin.torchvision_steps(image_size),
        v2.RandomApply([v2.ColorJitter(*jitter)], jitter_probability),
        v2.RandomGrayscale(grayscale),
        v2.RandomApply([v2.GaussianBlur(BLUR_KERNEL, BLUR_SIGMA)], blur),
    ]
    return image_transform(steps, normalisation)


def auto_augment_transform(
    image_size: int, normalisation: Normalisation, cutout: float = 0.5, padding: int = 4, flip: float = 0.5
) -> ImageTransform:
    """Shifted and flipped as weakly as ever, then AutoAugment's policy for CIFAR-10, then Cutout.

    Cubuk et al., "AutoAugment", CVPR 2019, table 7; PaCo (Cui et al., ICCV 2021) uses that policy for CIFAR-100,
    too. None of its operations mirrors an image, so `flip` alone says whether that may happen.

    Args:
        cutout: side of the black square as a share of the image's: 0.5 is 16 pixels of 32; 0 for none.
        padding: black pixels on each side before the crop.
        flip: probability of a horizontal flip.
    """
    where = f"{TEACHER}.first"
    begin = CropFlip("padded", padding=padding, flip=flip)
    begin.check(image_size, where)
    policy = v2.AutoAugment(v2.AutoAugmentPolicy.CIFAR10, fill=GREY)
    return image_transform([*begin.torchvision_steps(image_size), policy, Cutout(cutout)], normalisation)


def evaluation_transform(
    image_size: int, normalisation: Normalisation, crop_share: float = 1.0, interpolation: str = "bicubic"
) -> ImageTransform:
    """Scale the shorter side to image_size / crop_share and take the centre; or all of it, squashed to a square.

    The whole is what training on small images shows (padded crops), so with a share of 1 evaluation does, too.

    Args:
        crop_share: share of the scaled side that the crop keeps: 0.875 scales to 256 and keeps 224; 1 keeps all.
        interpolation: how pixels are resampled.
    """
    transform: ImageTransform = create_transform(
        image_size,
        is_training=False,
        interpolation=interpolation,
        mean=normalisation.mean,
        std=normalisation.std,
        crop_pct=crop_share,
        crop_mode="squash" if crop_share == 1 else "center",
    )
    return transform


def denormalise(images: Tensor, normalisation: Normalisation) -> Tensor:
    """images: [..., 3, H, W], normalised -> pixels in [0, 1], as a picture shows them."""
    mean = torch.tensor(normalisation.mean, device=images.device).view(3, 1, 1)
    std = torch.tensor(normalisation.std, device=images.device).view(3, 1, 1)
    return (images * std + mean).clamp(0, 1)


def described_rand_augment(where: str, description: str, hparams: dict[str, Any] | None = None) -> RandAugment:
    """timm's RandAugment of a description such as 'rand-m9-mstd0.5-inc1', or a ConfigError that names `where`."""
    try:
        made: RandAugment = rand_augment_transform(description, hparams)
        assert made.num_layers > 0
    except (AssertionError, ValueError, AttributeError):
        key = f"{where}.rand_augment"
        raise ConfigError(
            f"{key}={description} is no RandAugment of timm's; type {key}=rand-m9-mstd0.5-inc1, or null for none."
        ) from None
    return made


def check_area(where: str, name: str, pair: Sequence[float]) -> None:
    """Raise ConfigError where a pair is not a smallest and a largest share of an area, 0 < a <= b <= 1."""
    if len(pair) != 2 or not 0 < pair[0] <= pair[1] <= 1:
        shares = str(list(pair)).replace(" ", "")
        raise ConfigError(f"{where}.{name}={shares} are no shares of an area; type {name}=[0.08,1], say.")


def _augment_hparams(image_size: int, normalisation: Normalisation, interpolation: str | None) -> dict[str, Any]:
    """What timm's operations want to know: translation by up to .45 of the side; the mean colour from outside."""
    fill = tuple(min(255, round(255 * mean)) for mean in normalisation.mean)
    known: dict[str, Any] = {"translate_const": int(image_size * 0.45), "img_mean": fill}
    return known if interpolation is None else {**known, "interpolation": Image.Resampling[interpolation.upper()]}
