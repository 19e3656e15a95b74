"""CNN teachers as DeiT-LT's authors and timm write them."""

from pathlib import Path
from typing import Any, Literal

import timm
from timm.models import get_pretrained_cfg

from deitlt.checkpoints.stored import Layout, StoredNetwork, Weights, count_blocks, shape_of

ENCODER = "encoder_q."  # PaCo's query encoder, of which its inference takes the features
CLASSIFIER = "linear."  # PaCo's, beside the encoders; and the CIFAR ResNets' own
# Blocks of each stage, and whether a block has three convolutions.
_RESNETS: dict[tuple[tuple[int, ...], bool], str] = {
    ((2, 2, 2, 2), False): "resnet18",
    ((3, 4, 6, 3), False): "resnet34",
    ((3, 4, 6, 3), True): "resnet50",
    ((3, 4, 23, 3), True): "resnet101",
    ((3, 8, 36, 3), True): "resnet152",
}


def find_teacher(weights: Weights, arch: Any, path: Path) -> StoredNetwork | None:
    """The CNN that has these weights, or None if no known one has.

    Args:
        weights: by the authors' or timm's names.
        arch: timm's name of the network, where the file has one.
        path: of the file.
    """
    if any(name.startswith(ENCODER) for name in weights):
        return _resnet(_inference(weights), path, "paco")
    return _resnet(weights, path, "resnet") or _named_by_timm(weights, arch, path)


def _inference(weights: Weights) -> Weights:
    """PaCo's (Cui et al., 2021) network for inference: its query encoder's trunk with the classifier beside it.

    The encoder's own `fc` is the projection of contrastive learning, which inference leaves out.
    """
    trunk = {name.removeprefix(ENCODER): value for name, value in weights.items() if name.startswith(ENCODER)}
    trunk = {name: value for name, value in trunk.items() if not name.startswith("fc.")}
    own = CLASSIFIER if _is_small(trunk) else "fc."
    classifier = {name: value for name, value in weights.items() if name.startswith(CLASSIFIER)}
    return trunk | {name.replace(CLASSIFIER, own, 1): value for name, value in classifier.items()}


def _resnet(weights: Weights, path: Path, layout: Layout) -> StoredNetwork | None:
    """He et al.'s ResNets: torchvision and timm name their parts alike."""
    small = _is_small(weights)
    classifier = CLASSIFIER if small else "fc."
    shape = shape_of(weights, f"{classifier}weight", 2)
    name = f"cifar_resnet{6 * count_blocks(weights, 'layer1') + 2}" if small else _RESNETS.get(_blocks(weights))
    if shape is None or name is None:
        return None
    # A classifier of unit columns, LDAM's, is [features, classes] and has no bias; a linear one the reverse.
    head: Literal["linear", "cosine"] = "linear" if f"{classifier}bias" in weights else "cosine"
    num_classes = shape[0] if head == "linear" else shape[1]
    return StoredNetwork(path, "create_teacher", num_classes, {"name": name, "head": head}, weights, None, layout)


def _is_small(weights: Weights) -> bool:
    """Whether a ResNet begins as those for 32 pixels do."""
    return shape_of(weights, "conv1.weight", 4) == (16, 3, 3, 3)


def _blocks(weights: Weights) -> tuple[tuple[int, ...], bool]:
    stages = tuple(count_blocks(weights, f"layer{i}") for i in (1, 2, 3, 4))
    return stages, "layer1.0.conv3.weight" in weights


def _named_by_timm(weights: Weights, arch: Any, path: Path) -> StoredNetwork | None:
    """A network of timm's whose name the file tells, as timm's training script writes it."""
    if not isinstance(arch, str) or not timm.is_model(arch):
        return None
    known = get_pretrained_cfg(arch, allow_unregistered=False)
    classifier = shape_of(weights, f"{known.classifier if known else 'fc'}.weight", 2)
    if classifier is None:
        return None
    return StoredNetwork(path, "create_teacher", classifier[0], {"name": arch}, weights, None, "timm")
