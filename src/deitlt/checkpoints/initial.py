"""A student that starts from trained weights instead of fresh ones, in whole or in part.

The paper trains its students from scratch; a run that does not says so among its differences.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import timm
import torch
from timm.layers import resample_abs_pos_embed
from timm.models import is_model_in_modules, is_model_pretrained
from torch import Tensor

from deitlt.checkpoints.finding import find_checkpoint
from deitlt.checkpoints.foreign_students import INNER
from deitlt.checkpoints.label_order import order_by_name
from deitlt.checkpoints.loading import read_stored
from deitlt.checkpoints.stored import Weights
from deitlt.errors import CheckpointError, ConfigError, nearest
from deitlt.models import StudentNetwork

TIMM = "timm:"  # before a name of timm's, whose pretrained weights are fetched
_HEADS = ("head.weight", "head.bias", "head_dist.weight", "head_dist.bias")
_POSITIONS = "pos_embed"
_OPTIONAL = (*_HEADS, "dist_token")  # what one transformer may have and another lack
_SIZES = {"cls_token": "width", "patch_embed.proj.weight": "patch_size"}


def initialise(network: StudentNetwork, source: str, class_names: Sequence[str] | None = None) -> list[str]:
    """Give a student the weights of a trained transformer.

    Heads are taken in the student's order of classes, if the source names the same classes; a head of other
    classes, or any of timm's, stays fresh, and so does what the source lacks. A file that names no classes is
    taken at its word if it has as many. Position embeddings of another grid are resampled.

    Args:
        network: the student, which is changed.
        class_names: the student's classes; None where they are not known.
        source: a checkpoint of deitlt's or the authors', a run's folder, or `timm:NAME` for timm's
            pretrained weights.

    Returns:
        timm's names of the parameters that stay fresh.

    Raises:
        CheckpointError: if the file cannot be read, is no student's, or is of another size.
        ConfigError: if timm knows no such model, or its weights cannot be fetched.
    """
    given = _of_timm(source.removeprefix(TIMM)) if source.startswith(TIMM) else _of_file(source, class_names)
    own: Weights = {name.removeprefix(INNER): value for name, value in network.state_dict().items()}
    _check_names(given, own, source)
    taken = {name: value for name, value in given.items() if name in own and _fits(name, value, own)}
    _check_shapes(taken, own, source)
    if _POSITIONS in taken:
        taken[_POSITIONS] = _positions(taken[_POSITIONS], own[_POSITIONS], network)
    network.vit.load_state_dict(taken, strict=False)
    return [name for name in own if name not in taken]


def _of_file(source: str, class_names: Sequence[str] | None) -> Weights:
    stored = read_stored(find_checkpoint(Path(source).expanduser(), ("student",)))
    if stored.kind != "student":
        raise CheckpointError(f"student.init={source} holds a {stored.kind}; type student.init=FILE of a student.")
    weights = {name.removeprefix(INNER): value for name, value in stored.weights.items()}
    if stored.card is None or class_names is None:
        return weights
    order = order_by_name(stored.card.class_names, class_names)
    heads = {} if order is None else {name: weights[name][order] for name in _HEADS if name in weights}
    return {name: value for name, value in weights.items() if name not in _HEADS} | heads


def _of_timm(name: str) -> Weights:
    """timm's pretrained transformer, without its heads."""
    known = [m for m in timm.list_models(pretrained=True) if is_model_in_modules(m, ("vision_transformer", "deit"))]
    if not is_model_in_modules(name, ("vision_transformer", "deit")) or not is_model_pretrained(name):
        advice = nearest(name, known, f"type {TIMM}deit_base_patch16_224, say.")
        raise ConfigError(f"student.init={TIMM}{name} is no pretrained vision transformer of timm; {advice}")
    try:
        with _quiet_hub():
            vit = timm.create_model(name, pretrained=True)
    except (OSError, RuntimeError) as error:  # what the hub's client raises where there is no network
        raise ConfigError(
            f"student.init={TIMM}{name} could not be fetched ({type(error).__name__}); go online, "
            "type student.init=FILE of weights that are here, or student.init=null as in the paper."
        ) from error
    return {name: value for name, value in vit.state_dict().items() if name not in _HEADS}


@contextmanager
def _quiet_hub() -> Iterator[None]:
    """Each of the hub's attempts would say that there is no network; the last one's error says it once."""
    hub = logging.getLogger("huggingface_hub")
    level = hub.level
    hub.setLevel(logging.ERROR)
    try:
        yield
    finally:
        hub.setLevel(level)


def _fits(name: str, value: Tensor, own: Weights) -> bool:
    """Heads are taken only for as many classes; all else must fit."""
    return name not in _HEADS or value.shape == own[name].shape


def _check_names(given: Weights, own: Weights, source: str) -> None:
    """Raise CheckpointError where the two transformers are not built alike."""
    different = sorted((set(given) ^ set(own)) - set(_OPTIONAL))
    if not different:
        return
    where = "has no" if different[0] in own else "has the part"
    raise CheckpointError(
        f"student.init={source} is another transformer than the student: it {where} {different[0]}; type "
        "student.model.depth and student.model.name of the one that it is, or student.init=null."
    )


def _check_shapes(taken: Weights, own: Weights, source: str) -> None:
    """Raise CheckpointError where the two have parts of different sizes, beside the grid of patches."""
    for name in (*_SIZES, *taken):
        theirs, ours = taken[name].shape, own[name].shape
        if name == _POSITIONS or theirs == ours:
            continue
        if name not in _SIZES:
            raise CheckpointError(
                f"student.init={source} has {name} of shape {tuple(theirs)}, the student of {tuple(ours)}; "
                "type student.init=null."
            )
        key = f"student.model.{_SIZES[name]}"
        raise CheckpointError(
            f"student.init={source} has {_SIZES[name]} {theirs[-1]}, but the student has {ours[-1]}; "
            f"type {key}={theirs[-1]}, or student.init=null."
        )


def _positions(theirs: Tensor, ours: Tensor, network: StudentNetwork) -> Tensor:
    """theirs: [1, N, D], one vector a token -> as many as the student has tokens.

    Tokens before the patches keep the student's own vectors where the source has none for them.
    """
    rows, columns = network.vit.patch_embed.grid_size
    own_tokens, tokens = ours.shape[1] - rows * columns, _tokens_before_patches(theirs.shape[1])
    patches = resample_abs_pos_embed(theirs[:, tokens:], [rows, columns], num_prefix_tokens=0)
    shared = min(tokens, own_tokens)
    return torch.cat([theirs[:, :shared], ours[:, shared:own_tokens], patches], dim=1)


def _tokens_before_patches(length: int) -> int:
    """How many of the embeddings belong to class and distillation token: what is left of a square grid."""
    return length - int(length**0.5) ** 2
