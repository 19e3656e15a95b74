"""The weak view that CNN teachers of small images are trained on: shift and flip."""

from collections.abc import Callable

import torch
from PIL.Image import Image
from torch import Tensor
from torchvision.transforms import v2

from deitlt.types import Normalisation


def weak_view(
    image_size: int, normalisation: Normalisation, padding: int = 4, flip: float = 0.5
) -> Callable[[Image], Tensor]:
    """The picture scaled to `image_size`, padded, cropped at random and flipped (He et al., 2016).

    The teacher sees nothing stronger, so that the student's images lie outside its distribution
    (DeiT-LT, section 3.1).

    Args:
        image_size: pixels a side of the result.
        normalisation: statistics that the result is normalised with.
        padding: black pixels on each side before the crop.
        flip: probability of a horizontal flip.

    Returns:
        A function from a picture to [3, image_size, image_size].
    """
    view: Callable[[Image], Tensor] = v2.Compose(
        [
            v2.Resize((image_size, image_size), v2.InterpolationMode.BICUBIC),
            v2.RandomCrop(image_size, padding=padding),
            v2.RandomHorizontalFlip(flip),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(list(normalisation.mean), list(normalisation.std)),
            v2.ToPureTensor(),
        ]
    )
    return view
