"""Colour statistics that images are normalised with."""

import torch
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor
from torchvision.transforms import v2

from deitlt.types import Normalisation

IMAGENET = Normalisation(mean=IMAGENET_DEFAULT_MEAN, std=IMAGENET_DEFAULT_STD)


def normalised_tensor(normalisation: Normalisation) -> list[v2.Transform]:
    """The last steps of a view: a picture, or a uint8 image as a tensor -> [3, H, W], normalised."""
    return [
        v2.ToImage(),
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize(list(normalisation.mean), list(normalisation.std)),
        v2.ToPureTensor(),
    ]


def denormalise(images: Tensor, normalisation: Normalisation) -> Tensor:
    """images: [..., 3, H, W], normalised -> pixels in [0, 1], as a picture shows them."""
    mean = torch.tensor(normalisation.mean, device=images.device).view(3, 1, 1)
    std = torch.tensor(normalisation.std, device=images.device).view(3, 1, 1)
    return (images * std + mean).clamp(0, 1)
