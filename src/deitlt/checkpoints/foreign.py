"""Files that deitlt did not write: what network they hold is read off the names and shapes of their weights."""

from pathlib import Path
from typing import Any

from timm.models import clean_state_dict
from torch import Tensor

from deitlt.checkpoints.foreign_students import find_student
from deitlt.checkpoints.foreign_teachers import find_teacher
from deitlt.checkpoints.reading import Checkpoint
from deitlt.checkpoints.stored import StoredNetwork, Weights
from deitlt.errors import CheckpointError

# Where the authors and timm put weights and their average; a file may also be weights and nothing else.
_WEIGHTS = ("model", "state_dict")
_AVERAGES = ("model_ema", "state_dict_ema")


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
    found = find_student(weights, _inside(checkpoint, _AVERAGES), heads, path) or find_teacher(weights, arch, path)
    if found is None:
        raise CheckpointError(
            f"{path} was not written by deitlt, nor is it a network of DeiT-LT's authors or of timm that deitlt "
            "knows; type the path of a teacher's or student's .ckpt file."
        )
    return found


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
