"""The view that CNN teachers of large images are trained on: crop, flip, colours, and RandAugment if asked for."""

from collections.abc import Callable

from PIL.Image import Image
from timm.data.auto_augment import rand_augment_transform
from torch import Tensor
from torchvision.transforms import v2

from deitlt.transforms.crops import Crop, random_crop
from deitlt.transforms.limits import check_areas, check_jitter, check_probabilities
from deitlt.transforms.statistics import normalised_tensor
from deitlt.types import Normalisation

WHERE = "teacher.views.train"


def imagenet_view(
    image_size: int,
    normalisation: Normalisation,
    crop: Crop = "resized",
    scale: tuple[float, float] = (0.08, 1.0),
    padding: int = 4,
    flip: float = 0.5,
    jitter: float = 0.4,
    rand_augment: str | None = None,
    interpolation: str = "bilinear",
) -> Callable[[Image], Tensor]:
    """A random part, scaled; flipped; brightness, contrast and saturation changed; then RandAugment.

    Without RandAugment it is the view of LDAM's teachers (Rangwani et al., 2022), with it the first of PaCo's
    (Cui et al., ICCV 2021), whose colours change before RandAugment.

    Args:
        image_size: pixels a side of the result.
        normalisation: statistics that the result is normalised with.
        crop: 'resized', 'padded' or 'simple', as in `random_crop`.
        scale: smallest and largest share of the area that a resized crop takes.
        padding: pixels on each side before a padded or simple crop.
        flip: probability of a horizontal flip.
        jitter: strength of the change of brightness, contrast and saturation; the hue stays.
        rand_augment: timm's description of RandAugment, or None for none.
        interpolation: how pixels are resampled.

    Returns:
        A function from a picture to [3, image_size, image_size].
    """
    check_areas(WHERE, scale=scale)
    check_probabilities(WHERE, flip=flip)
    check_jitter(WHERE, jitter, jitter, jitter)
    steps: list[Callable[..., object]] = [
        random_crop(WHERE, crop, image_size, scale, padding, interpolation),
        v2.RandomHorizontalFlip(flip),
        v2.ColorJitter(jitter, jitter, jitter),
    ]
    if rand_augment is not None:
        # Translation by up to .45 of the side, and the mean colour for what moves in from outside, as PaCo has it.
        fill = tuple(round(255 * mean) for mean in normalisation.mean)
        steps.append(
            rand_augment_transform(rand_augment, {"translate_const": int(image_size * 0.45), "img_mean": fill})
        )
    view: Callable[[Image], Tensor] = v2.Compose([*steps, *normalised_tensor(normalisation)])
    return view
