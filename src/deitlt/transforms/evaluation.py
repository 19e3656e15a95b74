"""The one view that images are evaluated on."""

from collections.abc import Callable

from PIL.Image import Image
from timm.data.transforms_factory import create_transform
from torch import Tensor

from deitlt.errors import ConfigError
from deitlt.types import Normalisation


def evaluation_view(
    image_size: int, normalisation: Normalisation, crop_share: float = 1.0, interpolation: str = "bicubic"
) -> Callable[[Image], Tensor]:
    """Scale the shorter side to image_size / crop_share and take the centre; or all of it, squashed to a square.

    The whole is what training on small images shows (padded crops), so with a share of 1 evaluation does, too.

    Args:
        image_size: pixels a side of the result.
        normalisation: statistics that the result is normalised with.
        crop_share: share of the scaled side that the crop keeps: 0.875 scales to 256 and keeps 224; 1 keeps all.
        interpolation: how pixels are resampled.

    Returns:
        A function from a picture to [3, image_size, image_size].

    Raises:
        ConfigError: if the share is not in (0, 1].
    """
    if not 0 < crop_share <= 1:
        raise ConfigError(f"views.evaluation.crop_share={crop_share} is no share; type 0.875, or 1 for the whole.")
    view: Callable[[Image], Tensor] = create_transform(
        image_size,
        is_training=False,
        interpolation=interpolation,
        mean=normalisation.mean,
        std=normalisation.std,
        crop_pct=crop_share,
        crop_mode="squash" if crop_share == 1 else "center",
    )
    return view
