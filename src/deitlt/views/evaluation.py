"""The one view that images are evaluated on."""

from collections.abc import Callable

from PIL.Image import Image
from timm.data.transforms_factory import create_transform
from torch import Tensor

from deitlt.types import Normalisation


def evaluation_view(
    image_size: int, normalisation: Normalisation, crop_share: float = 1.0, interpolation: str = "bicubic"
) -> Callable[[Image], Tensor]:
    """Scale the shorter side to image_size / crop_share and take the centre.

    Args:
        image_size: pixels a side of the result.
        normalisation: statistics that the result is normalised with.
        crop_share: share of the scaled side that the crop keeps: 0.875 scales to 256 and keeps 224.
        interpolation: how pixels are resampled.

    Returns:
        A function from a picture to [3, image_size, image_size].
    """
    view: Callable[[Image], Tensor] = create_transform(
        image_size,
        is_training=False,
        interpolation=interpolation,
        mean=normalisation.mean,
        std=normalisation.std,
        crop_pct=crop_share,
    )
    return view
