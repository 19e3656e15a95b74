"""AutoAugment and Cutout on small images: the first of PaCo's views on CIFAR."""

from collections.abc import Callable

from PIL.Image import Image
from torch import Tensor
from torchvision.transforms import v2

from deitlt.transforms.crops import random_crop
from deitlt.transforms.cutout import Cutout
from deitlt.transforms.limits import check_probabilities
from deitlt.transforms.statistics import normalised_tensor
from deitlt.types import Normalisation

WHERE = "teacher.views.train.first"
GREY = 128  # of pixels that move in from outside


def auto_augment_view(
    image_size: int,
    normalisation: Normalisation,
    padding: int = 4,
    flip: float = 0.5,
    cutout: float = 0.5,
) -> Callable[[Image], Tensor]:
    """Shifted and flipped as weakly as ever, then AutoAugment's policy for CIFAR-10, then Cutout.

    Cubuk et al., "AutoAugment", CVPR 2019, table 7; PaCo (Cui et al., ICCV 2021) uses that policy for CIFAR-100,
    too. None of its operations mirrors an image, so `flip` alone says whether that may happen.

    Args:
        image_size: pixels a side of the result.
        normalisation: statistics that the result is normalised with.
        padding: black pixels on each side before the crop.
        flip: probability of a horizontal flip.
        cutout: side of the black square as a share of the image's: 0.5 is 16 pixels of 32; 0 for none.

    Returns:
        A function from a picture to [3, image_size, image_size].
    """
    check_probabilities(WHERE, flip=flip, cutout=cutout)
    view: Callable[[Image], Tensor] = v2.Compose(
        [
            random_crop(WHERE, "padded", image_size, (1.0, 1.0), padding, "bicubic"),
            v2.RandomHorizontalFlip(flip),
            v2.AutoAugment(v2.AutoAugmentPolicy.CIFAR10, fill=GREY),
            v2.ToImage(),
            Cutout(cutout),  # before normalisation, so that its square is black
            *normalised_tensor(normalisation),
        ]
    )
    return view
