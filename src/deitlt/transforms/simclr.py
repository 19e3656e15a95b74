"""SimCLR's view: crop, flip, colours, grey, blur."""

from collections.abc import Callable, Sequence

from PIL.Image import Image
from torch import Tensor
from torchvision.transforms import v2

from deitlt.transforms.crops import Crop, random_crop
from deitlt.transforms.limits import check_areas, check_jitter, check_probabilities
from deitlt.transforms.statistics import normalised_tensor
from deitlt.types import Normalisation

WHERE = "teacher.views.train.second"
BLUR_KERNEL = 13  # pixels: three standard deviations to each side of the strongest blur
BLUR_SIGMA = (0.1, 2.0)  # pixels


def simclr_view(
    image_size: int,
    normalisation: Normalisation,
    crop: Crop = "resized",
    scale: tuple[float, float] = (0.2, 1.0),
    padding: int = 4,
    flip: float = 0.5,
    jitter: Sequence[float] = (0.4, 0.4, 0.4, 0.1),
    jitter_probability: float = 0.8,
    grayscale: float = 0.2,
    blur: float = 0.0,
    interpolation: str = "bilinear",
) -> Callable[[Image], Tensor]:
    """Chen et al., "A Simple Framework for Contrastive Learning", ICML 2020, appendix A; the second of PaCo's views.

    PaCo's strengths of jitter are milder than SimCLR's own.

    Args:
        image_size: pixels a side of the result; 8 or more where it may be blurred.
        normalisation: statistics that the result is normalised with.
        crop: 'resized', 'padded' or 'simple', as in `random_crop`.
        scale: smallest and largest share of the area that a resized crop takes.
        padding: pixels on each side before a padded or simple crop.
        flip: probability of a horizontal flip.
        jitter: strengths of the change of brightness, contrast, saturation and hue.
        jitter_probability: probability of such a change.
        grayscale: probability of losing all colour.
        blur: probability of a Gaussian blur, of .1 to 2 pixels.
        interpolation: how pixels are resampled.

    Returns:
        A function from a picture to [3, image_size, image_size].
    """
    check_areas(WHERE, scale=scale)
    check_probabilities(WHERE, flip=flip, jitter_probability=jitter_probability, grayscale=grayscale, blur=blur)
    check_jitter(WHERE, *jitter)
    view: Callable[[Image], Tensor] = v2.Compose(
        [
            random_crop(WHERE, crop, image_size, scale, padding, interpolation),
            v2.RandomHorizontalFlip(flip),
            v2.RandomApply([v2.ColorJitter(*jitter)], jitter_probability),
            v2.RandomGrayscale(grayscale),
            v2.RandomApply([v2.GaussianBlur(BLUR_KERNEL, BLUR_SIGMA)], blur),
            *normalised_tensor(normalisation),
        ]
    )
    return view
