"""Checkpoints of DeiT-LT's authors and of timm: recognised by the names and shapes of their weights, and written."""

from collections.abc import Mapping, Sequence
from math import isqrt
from pathlib import Path
from typing import Any, Literal

import timm
from timm.models import clean_state_dict, get_pretrained_cfg
from torch import Tensor

from deitlt.checkpoints.io import INNER, Checkpoint
from deitlt.checkpoints.spec import ModelSpec, StoredNetwork, Weights
from deitlt.data import LongTailDataModule
from deitlt.errors import CheckpointError
from deitlt.models import StudentNetwork
from deitlt.transforms import IMAGENET

HEAD_WIDTH = 64  # of a token's vector for each attention head, in every DeiT and ViT
LDAM_SCALE = 30.0  # of the published cosine classifiers (Cao et al., 2019), where a recipe has no LDAM loss
# Where the authors and timm put weights and their average; a file may also be weights and nothing else.
_WEIGHTS = ("model", "state_dict")
_AVERAGES = ("model_ema", "state_dict_ema")
_ENCODER = "encoder_q."  # PaCo's query encoder, of which its inference takes the features
_CLASSIFIER = "linear."  # PaCo's, beside the encoders; and the CIFAR ResNets' own
# Blocks of each stage, and whether a block has three convolutions.
_RESNETS: dict[tuple[tuple[int, ...], bool], str] = {
    ((2, 2, 2, 2), False): "resnet18",
    ((3, 4, 6, 3), False): "resnet34",
    ((3, 4, 6, 3), True): "resnet50",
    ((3, 4, 23, 3), True): "resnet101",
    ((3, 8, 36, 3), True): "resnet152",
}


def recognise(checkpoint: Checkpoint, path: Path) -> StoredNetwork:
    """The network in a file of DeiT-LT's authors or of timm.

    Known are PaCo's pair of encoders (its inference: the query encoder's features through `linear`), ResNets
    with a linear or cosine classifier (LDAM), DeiT and ViT students, and every network that timm's `arch`
    names; with and without the `module.` that training on several devices puts before each name.

    Raises:
        CheckpointError: if it is none of these.
    """
    weights = _inside(checkpoint, _WEIGHTS) or _tensors(checkpoint)
    heads, arch = checkpoint.get("heads"), checkpoint.get("arch")
    found = _student(weights, _inside(checkpoint, _AVERAGES), heads, path) or _teacher(weights, arch, path)
    if found is None:
        raise CheckpointError(
            f"{path} was not written by deitlt, nor is it a network of DeiT-LT's authors or of timm that deitlt "
            "knows; type the path of a teacher's or student's .ckpt file."
        )
    return found


def spec_by_recipe(
    stored: StoredNetwork, recipe: Mapping[str, Any], datamodule: LongTailDataModule, data: dict[str, Any]
) -> ModelSpec:
    """A spec for an external network, with the classes in the order of the data.

    Args:
        stored: the network, whose own image size goes before the recipe's.
        recipe: the node `teacher` or `student` of the configuration that it was trained with, or like.
        datamodule: the data that it was trained on.
        data: their configuration, plain values.

    Raises:
        CheckpointError: if the network knows another number of classes than the data.
    """
    info = datamodule.info
    if stored.num_classes != info.num_classes:
        raise CheckpointError(
            f"{stored.path} knows {stored.num_classes} classes, but the data have {info.num_classes}; "
            "type experiment=NAME, the recipe of the data that it was trained on."
        )
    is_cosine = stored.model.get("head") == "cosine"
    return ModelSpec.of(
        info,
        IMAGENET if recipe["statistics"] == "imagenet" else datamodule.spec.normalisation,
        kind=stored.kind,
        target=stored.target,
        model=stored.model,
        image_size=stored.model.get("image_size", recipe["image_size"]),
        crop_share=recipe["transforms"]["evaluation"]["crop_share"],
        logit_scale=float(recipe["loss"].get("scale", LDAM_SCALE)) if is_cosine else 1.0,
        protocol="",
        data=data,
    )


def authors_student_state(student: StudentNetwork, order: Sequence[int] | None = None) -> dict[str, Any]:
    """A student in the layout that the authors' evaluation and timm read, for `torch.save`.

    No shape tells the number of attention heads, so `heads` says it, for readers that ask; the authors' and
    timm's take one for 64 of width, which holds for every DeiT.

    Args:
        student: the network.
        order: which class of the student stands at each place of the logits; None leaves its order.

    Returns:
        `model`, weights by timm's names, and `heads`.
    """
    weights = {name: value.detach().cpu().clone() for name, value in student.vit.state_dict().items()}
    if order is not None:
        weights |= {name: value[list(order)] for name, value in weights.items() if name.startswith("head")}
    attention: Any = student.vit.blocks[0].attn
    return {"model": weights, "heads": int(attention.num_heads)}


def _student(weights: Weights, average: Weights, heads: Any, path: Path) -> StoredNetwork | None:
    """The vision transformer that has these weights by timm's names; None if they are no such weights.

    `heads`: attention heads, which no shape tells, where the file says so; else one for 64 of width.
    """
    patches = _shape(weights, "patch_embed.proj.weight", 4)
    positions = _shape(weights, "pos_embed", 3)
    if patches is None or positions is None or "cls_token" not in weights:
        return None
    head = _shape(weights, "head.weight", 2)
    if head is None:
        raise CheckpointError(f"{path} holds a transformer without a classifier; type the path of one that has it.")
    width, patch_size, distilled = patches[0], patches[3], "dist_token" in weights
    layer_scale = "blocks.0.ls1.gamma" in weights  # DeiT-III's, whose class token has no position
    grid = _grid(positions[1] - (0 if layer_scale else 1 + distilled), path)
    known = type(heads) is int and heads > 0 and width % heads == 0
    model = {
        "name": "deit3_base_patch16_224" if layer_scale else "deit_base_patch16_224",
        "image_size": grid * patch_size,
        "patch_size": patch_size,
        "distilled": distilled,
        "width": width,
        "depth": _count_blocks(weights, "blocks"),
        "heads": heads if known else max(1, width // HEAD_WIDTH),
        "drop_path": 0.0,
    }
    average = {f"{INNER}{name}": value for name, value in average.items()}
    weights = {f"{INNER}{name}": value for name, value in weights.items()}
    return StoredNetwork(path, "deitlt.models.create_student", head[0], model, weights, average or None)


def _grid(patches: int, path: Path) -> int:
    """Patches a side of a square image."""
    if patches < 1 or isqrt(patches) ** 2 != patches:
        raise CheckpointError(
            f"{path} holds a transformer for {patches} patches, which make no square image; type the path of another."
        )
    return isqrt(patches)


def _teacher(weights: Weights, arch: Any, path: Path) -> StoredNetwork | None:
    """The CNN that has these weights; None if no known one has. `arch`: timm's name, where the file has one."""
    if any(name.startswith(_ENCODER) for name in weights):
        return _resnet(_paco_inference(weights), path, is_paco=True)
    return _resnet(weights, path) or _named_by_timm(weights, arch, path)


def _paco_inference(weights: Weights) -> Weights:
    """PaCo's (Cui et al., 2021) network for inference: its query encoder's trunk with the classifier beside it.

    The encoder's own `fc` is the projection of contrastive learning, which inference leaves out.
    """
    trunk = {name.removeprefix(_ENCODER): value for name, value in weights.items() if name.startswith(_ENCODER)}
    trunk = {name: value for name, value in trunk.items() if not name.startswith("fc.")}
    own = _CLASSIFIER if _is_small(trunk) else "fc."
    classifier = {name: value for name, value in weights.items() if name.startswith(_CLASSIFIER)}
    return trunk | {name.replace(_CLASSIFIER, own, 1): value for name, value in classifier.items()}


def _resnet(weights: Weights, path: Path, is_paco: bool = False) -> StoredNetwork | None:
    """He et al.'s ResNets: torchvision and timm name their parts alike."""
    small = _is_small(weights)
    classifier = _CLASSIFIER if small else "fc."
    shape = _shape(weights, f"{classifier}weight", 2)
    blocks = tuple(_count_blocks(weights, f"layer{i}") for i in (1, 2, 3, 4))
    name = f"cifar_resnet{6 * blocks[0] + 2}" if small else _RESNETS.get((blocks, "layer1.0.conv3.weight" in weights))
    if shape is None or name is None:
        return None
    # A classifier of unit columns, LDAM's, is [features, classes] and has no bias; a linear one the reverse.
    head: Literal["linear", "cosine"] = "linear" if f"{classifier}bias" in weights else "cosine"
    num_classes, model = shape[0] if head == "linear" else shape[1], {"name": name, "head": head}
    return StoredNetwork(path, "deitlt.models.create_teacher", num_classes, model, weights, None, is_paco=is_paco)


def _is_small(weights: Weights) -> bool:
    """Whether a ResNet begins as those for 32 pixels do."""
    return _shape(weights, "conv1.weight", 4) == (16, 3, 3, 3)


def _named_by_timm(weights: Weights, arch: Any, path: Path) -> StoredNetwork | None:
    """A network of timm's whose name the file tells, as timm's training script writes it."""
    if not isinstance(arch, str) or not timm.is_model(arch):
        return None
    known = get_pretrained_cfg(arch, allow_unregistered=False)
    classifier = _shape(weights, f"{known.classifier if known else 'fc'}.weight", 2)
    if classifier is None:
        return None
    return StoredNetwork(path, "deitlt.models.create_teacher", classifier[0], {"name": arch}, weights, None)


def _inside(checkpoint: Checkpoint, keys: tuple[str, ...]) -> Weights:
    """The weights under the first of the keys that has any."""
    for key in keys:
        if isinstance(inner := checkpoint.get(key), dict) and (weights := _tensors(inner)):
            return weights
    return {}


def _tensors(content: dict[Any, Any]) -> Weights:
    """The tensors with names, without the prefixes of what wraps a network in training."""
    named = {name: value for name, value in content.items() if isinstance(name, str) and isinstance(value, Tensor)}
    return dict(clean_state_dict(named))


def _shape(weights: Weights, name: str, dimensions: int) -> tuple[int, ...] | None:
    """The shape of one of the weights; None if it is not there or has not so many dimensions."""
    found = weights.get(name)
    return tuple(found.shape) if found is not None and found.ndim == dimensions else None


def _count_blocks(weights: Weights, stage: str) -> int:
    """How many numbered parts `stage.0`, `stage.1`, ... the weights name."""
    numbers = (name.removeprefix(f"{stage}.").split(".")[0] for name in weights if name.startswith(f"{stage}."))
    return len({number for number in numbers if number.isdigit()})
