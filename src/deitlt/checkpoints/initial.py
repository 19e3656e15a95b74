"""What a student starts from: trained weights instead of fresh ones, and whether it or its teacher saw held-out images.

The paper trains its students from scratch; a run that does not says so among its differences.
"""

import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
from timm.layers import resample_abs_pos_embed
from timm.models import get_pretrained_cfg, is_model_in_modules, is_model_pretrained
from torch import Tensor

from deitlt.checkpoints.io import INNER, KEY, Checkpoint, find_checkpoint, read_checkpoint
from deitlt.checkpoints.loading import read_stored
from deitlt.checkpoints.spec import Kind, ModelSpec, Weights, order_by_name
from deitlt.config.checks import holds_out
from deitlt.data import LongTailDataModule
from deitlt.errors import CheckpointError, ConfigError, nearest
from deitlt.models import StudentNetwork
from deitlt.types import Normalisation

TIMM = "timm:"  # before a name of timm's, whose pretrained weights are fetched
_MODULES = ("vision_transformer", "deit")  # timm's, with the transformers that a student can be
_HEADS = ("head.weight", "head.bias", "head_dist.weight", "head_dist.bias")
_POSITIONS = "pos_embed"
_PATCHES = "patch_embed.proj.weight"
_INSIDE = ("model", "state_dict", "teacher", "student")  # where others put weights; of DINO's two the average first
_NO_PART = ("decoder_", "mask_token", "head.", "head_dist.")  # of a student, but for its own heads: MAE's, DINO's
_SIZES = {"cls_token": "width", "patch_embed.proj.weight": "patch_size"}
# What says which images are held out, beside their share: one seed holds out the same images first.
SPLIT = ("split_seed", "imbalance_factor", "imbalance_kind", "max_count", "class_order")
# May name other images.
_LISTS = ("train_csv", "train_list", "path", "subset", "dataset", "train_split", "image_column", "label_column")
_USERS = ("folder", "lists")  # data whose folder may be anything
# What to type to do without a network that has seen them.
_INSTEAD = {"teacher": "teacher.checkpoint=null to train one", "student": "student.init=null as in the paper"}

Known = Mapping[str, Any]  # the configuration of the data that a checkpoint was trained on; empty where nobody knows


@dataclass(frozen=True)
class Start:
    """What became of a student that started from trained weights.

    fresh: timm's names of the parameters that stay so. positions: what was done to the position embedding, in words;
    empty where it was taken as it is. normalisation: of the images that the weights were trained on; None where nobody
    knows.
    """

    fresh: list[str]
    positions: str
    normalisation: Normalisation | None

    def said(self, own: Normalisation) -> str:
        """It in words; own: the statistics that the student's images are normalised with."""
        words = f"fresh: {', '.join(self.fresh) if self.fresh else 'nothing'}"
        words += f"; {self.positions}" if self.positions else ""
        if self.normalisation in (None, own):
            return words
        assert self.normalisation is not None
        theirs, ours = (f"mean {of.mean} and deviation {of.std}" for of in (self.normalisation, own))
        return f"{words}; it was trained on images normalised by {theirs}, and here they are by {ours}"


def initialise(network: StudentNetwork, source: str, class_names: Sequence[str] | None = None) -> Start:
    """Give a student the weights of a trained transformer, or of an encoder alone.

    Heads are taken in the student's order of classes, if the source names the same classes; a head of other
    classes, or any of timm's, stays fresh, and so does what the source lacks. A file that names no classes is
    taken at its word if it has as many. Position embeddings of another grid are resampled.

    Args:
        network: the student, which is changed.
        source: a checkpoint of deitlt's, of the authors', MAE's or DINO's, weights by timm's names (a .safetensors
            file, too), a run's folder, or `timm:NAME` for timm's pretrained weights.
        class_names: the student's classes; None where they are not known.

    Returns:
        What stays fresh, and what else is to be known of it.

    Raises:
        CheckpointError: if the file cannot be read, is no student's, or is of another size.
        ConfigError: if timm knows no such model, or its weights cannot be fetched.
    """
    opened = _of_timm(source.removeprefix(TIMM)) if source.startswith(TIMM) else _of_file(source)
    given = opened.in_order_of(class_names)
    own: Weights = network.vit.state_dict()
    _check_alike(given, own, source)
    # Heads are taken only for as many classes.
    taken = {n: v for n, v in given.items() if n in own and (n not in _HEADS or v.shape == own[n].shape)}
    positions = ""
    if _POSITIONS in taken:
        taken[_POSITIONS], positions = _positions(taken[_POSITIONS], own[_POSITIONS], network)
    network.vit.load_state_dict(taken, strict=False)
    return Start([name for name in own if name not in taken], positions, opened.normalisation)


@dataclass(frozen=True)
class _Opened:
    """Trained weights by timm's names, with what is known of them."""

    path: Path
    weights: Weights
    spec: ModelSpec | None = None
    normalisation: Normalisation | None = None

    def in_order_of(self, class_names: Sequence[str] | None) -> Weights:
        """The weights with the heads' classes in this order; without heads of other classes."""
        if self.spec is None or class_names is None:
            return self.weights
        order = order_by_name(self.spec.class_names, class_names)
        heads = {} if order is None else {name: self.weights[name][order] for name in _HEADS if name in self.weights}
        return {name: value for name, value in self.weights.items() if name not in _HEADS} | heads


def _of_file(source: str) -> _Opened:
    path = find_checkpoint(os.path.expanduser(source), ("student",))
    content = read_checkpoint(path, external=True)
    if KEY not in content and (weights := encoder_in(content)):
        return _Opened(path, weights, None, _statistics_beside(path))
    stored = read_stored(path)
    if stored.kind != "student":
        raise CheckpointError(f"student.init={source} holds a {stored.kind}; type student.init=FILE of a student.")
    weights = {name.removeprefix(INNER): value for name, value in stored.weights.items()}
    return _Opened(path, weights, stored.spec, None if stored.spec is None else stored.spec.normalisation)


def encoder_in(content: Checkpoint) -> Weights:
    """The weights of a file's vision transformer by timm's names, whatever they lie in and whatever wrapped it.

    What a student has no place for is left out: MAE's decoder and mask, and heads that are no classifier of timm's.

    Args:
        content: of the file; its own weights or one of the dicts in it.

    Returns:
        Nothing where there is no such transformer.
    """
    for place in (*(content.get(key) for key in _INSIDE), content):
        if not isinstance(place, dict):
            continue
        tensors = {str(name): value for name, value in place.items() if isinstance(value, Tensor)}
        for prefix in (name.removesuffix(_PATCHES) for name in tensors if name.endswith(_PATCHES)):
            found = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
            if _POSITIONS in found and "cls_token" in found:
                return {n: value for n, value in found.items() if n in _HEADS or not n.startswith(_NO_PART)}
    return {}


def _statistics_beside(path: Path) -> Normalisation | None:
    """What timm's config.json beside a file says of the images that its weights were trained on."""
    try:
        content = json.loads(path.with_name("config.json").read_text())
        known = content.get("pretrained_cfg", content)  # older ones have no such node
        return Normalisation(_three(known["mean"]), _three(known["std"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # nobody says
        return None


def _three(values: Any) -> tuple[float, float, float]:
    red, green, blue = map(float, values)
    return red, green, blue


def _of_timm(name: str) -> _Opened:
    """timm's pretrained transformer, without its heads."""
    if not is_model_in_modules(name, _MODULES) or not is_model_pretrained(name):
        known = timm.list_models(pretrained=True, module=_MODULES)
        advice = nearest(name, known, f"type {TIMM}deit_base_patch16_224, say.")
        raise ConfigError(f"student.init={TIMM}{name} is no pretrained vision transformer of timm; {advice}")
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # each attempt would say that there is no network
    try:
        vit = timm.create_model(name, pretrained=True)
    except (OSError, RuntimeError) as error:  # what the hub's client raises where there is no network
        raise ConfigError(
            f"student.init={TIMM}{name} could not be fetched ({type(error).__name__}); go online, "
            "type student.init=FILE of weights that are here, or student.init=null as in the paper."
        ) from error
    config = get_pretrained_cfg(name)
    statistics = None if config is None else Normalisation(_three(config.mean), _three(config.std))
    weights = {part: value for part, value in vit.state_dict().items() if part not in _HEADS}
    return _Opened(Path(name), weights, None, statistics)


def _check_alike(given: Weights, own: Weights, source: str) -> None:
    """Raise CheckpointError where two transformers have other parts, or parts of other sizes."""
    if different := sorted((set(given) ^ set(own)) - {*_HEADS, "dist_token"}):
        where = "has no" if different[0] in own else "has the part"
        raise CheckpointError(
            f"student.init={source} is another transformer than the student: it {where} {different[0]}; "
            "type student.model.depth, student.model.stem and student.model.name of the one that it is, or "
            "student.init=null."
        )
    shared = [name for name in given if name in own and name not in (*_HEADS, _POSITIONS)]
    for name in sorted(shared, key=lambda name: name not in _SIZES):  # first what a key can mend
        theirs, ours = given[name].shape, own[name].shape
        if theirs == ours:
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


def _positions(theirs: Tensor, ours: Tensor, network: StudentNetwork) -> tuple[Tensor, str]:
    """theirs: [1, N, D], one vector a token -> as many as the student has tokens, and what was done, in words.

    Tokens before the patches keep the student's own vectors where the source has none for them.
    """
    rows, columns = network.vit.patch_embed.grid_size
    own_tokens, length = ours.shape[1] - rows * columns, theirs.shape[1]
    side = int(length**0.5)
    tokens = length - side**2  # of class and distillation: what is left of a square grid
    patches = resample_abs_pos_embed(theirs[:, tokens:], [rows, columns], num_prefix_tokens=0)
    shared = min(tokens, own_tokens)
    is_same = (side, side) == (rows, columns)
    said = [] if is_same else [f"positions resampled from {side}x{side} patches to {rows}x{columns}"]
    said += ["the position of DIST fresh"] if shared < own_tokens else []
    return torch.cat([theirs[:, :shared], ours[:, shared:own_tokens], patches], dim=1), ", ".join(said)


def check_start(source: str | None, data: Known) -> str | None:
    """`check_unseen` of `student.init`, the weights that a student starts from; None where it starts from nothing."""
    if source is None or not holds_out(data):
        return None
    known: Known = {}
    if not source.startswith(TIMM):
        opened = _of_file(source)
        source, known = str(opened.path), {} if opened.spec is None else opened.spec.data
    return check_unseen("student", source, known, data)


def doubt_images(path: Path, spec: ModelSpec, datamodule: LongTailDataModule, data: Known) -> str | None:
    """Look whether a teacher of the same data learnt the images that they have now.

    Args:
        path: its checkpoint.
        spec: what that says, its classes in the order of the data.
        datamodule: the data.
        data: their configuration.

    Returns:
        A line for the terminal where it did not; None where it did, or claims no such data.

    Raises:
        CheckpointError: if some images are held out, as others were when it was trained.
    """
    if any(
        spec.data.get(key) != data.get(key) for key in ("name", "root", "val_fraction", "val_list", *_LISTS, *SPLIT)
    ):
        return None
    changed = spec.changes(datamodule.info, datamodule.images)
    if changed and holds_out(data):
        raise CheckpointError(
            f"The teacher in {path} may have seen images that this run holds out, for the data changed since then: "
            f"{changed}; type {_INSTEAD['teacher']}, or data.val_fraction=0."
        )
    return f"teacher: the data changed since {path} was trained: {changed}" if changed else None


def check_unseen(kind: Kind, path: str | Path, known: Known, data: Known) -> str | None:
    """Look whether a network was trained on images that a run holds out: the run would be chosen by what it was told.

    Args:
        kind: 'teacher' or 'student'.
        path: its checkpoint.
        known: the configuration of its training data; empty where nobody knows.
        data: the run's configuration of the data.

    Returns:
        A line for the terminal where nobody knows; None where it has not seen them.

    Raises:
        CheckpointError: if it has, or may have.
    """
    if not holds_out(data):
        return None
    same = ("name", *_LISTS, *(("root",) if data["name"] in _USERS else ()))
    if any(known.get(key) != data.get(key) for key in same):
        return f"{kind}: {path} does not say whether it was trained on images that are held out here"
    if data.get("val_list"):  # of images outside the training list
        return None
    changed = [key for key in SPLIT if known.get(key) != data.get(key)]
    if not known.get("val_fraction") or (not changed and known["val_fraction"] < data["val_fraction"]):
        changed = ["val_fraction"]
    if not changed:
        return None
    key = changed[0]
    theirs, ours = (f"data.{key}={'null' if of.get(key) is None else of[key]}" for of in (known, data))
    raise CheckpointError(
        f"The {kind} in {path} was trained with {theirs}, so that with {ours} it has seen images that this run holds "
        f"out; type {_INSTEAD[kind]}, or {theirs}."
    )
