"""CNN teachers by name: the CIFAR ResNets, and every CNN that timm has."""

import fnmatch
import re
from typing import Any, cast

import timm
from torch import nn

from deitlt.errors import ConfigError, nearest
from deitlt.models.cifar_resnet import CifarResNet, Head
from deitlt.models.cosine import CosineLinear

CIFAR_DEPTHS = (8, 20, 32, 44, 56)
_CIFAR_NAME = re.compile(r"cifar_resnet(\d+)")
_ALL_NAMES = "type deitlt list models 'resnet*', say, to see timm's."


def list_teachers(pattern: str = "*") -> list[str]:
    """Names that `create_teacher` knows: the CIFAR ResNets, then timm's models.

    Args:
        pattern: a shell pattern such as ``resnet*``.
    """
    names = [f"cifar_resnet{depth}" for depth in CIFAR_DEPTHS] + list(timm.list_models())
    return fnmatch.filter(names, pattern)


def create_teacher(num_classes: int, name: str = "cifar_resnet32", head: Head = "linear") -> nn.Module:
    """A CNN with fresh weights: images [B, 3, H, W] -> logits [B, C].

    Args:
        num_classes: classes C; 0 for no classifier: the network then answers its pooled features.
        name: one of `list_teachers()`.
        head: 'linear', or 'cosine' for LDAM, whose logits are cosines.

    Raises:
        ConfigError: if no model has that name, the head is neither, or the model's own cannot be replaced.
    """
    if head not in ("linear", "cosine"):
        raise ConfigError(f"teacher.model.head={head} is not a head; type teacher.model.head=linear or =cosine.")
    if match := _CIFAR_NAME.fullmatch(name):
        if int(match[1]) not in CIFAR_DEPTHS:
            raise ConfigError(f"teacher.model.name={name}: {nearest(name, list_teachers('cifar_*'))}")
        return CifarResNet(num_classes, int(match[1]), head)
    if not timm.is_model(name):
        raise ConfigError(f"teacher.model.name={name} is no model; {nearest(name, list_teachers(), _ALL_NAMES)}")
    network: nn.Module = timm.create_model(name, pretrained=False, num_classes=num_classes)
    if head == "cosine":
        _replace_by_cosine(network, num_classes, name)
    return network


def _replace_by_cosine(network: nn.Module, num_classes: int, name: str) -> None:
    """Put a cosine classifier where timm's linear one is, whatever that model calls it."""
    classifier = cast(Any, network).get_classifier()
    if not isinstance(classifier, nn.Linear):
        raise ConfigError(
            f"teacher.model.name={name} has no linear classifier that a cosine one could replace; "
            "type teacher.model.head=linear, or another model such as teacher.model.name=resnet50."
        )
    path = next(path for path, module in network.named_modules() if module is classifier)
    network.set_submodule(path, CosineLinear(classifier.in_features, num_classes))
