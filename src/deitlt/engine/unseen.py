"""Whether what a run begins with was trained on images that the run holds out, and is to be chosen by."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deitlt.checkpoints import TIMM, find_checkpoint, read_stored
from deitlt.engine.sweep_words import literal
from deitlt.engine.teachers import CheckedTeacher
from deitlt.errors import CheckpointError

# What says which images are held out, beside their share: one seed holds out the same images first.
SPLIT = ("split_seed", "imbalance_factor", "imbalance_kind", "max_count", "class_order")
LISTS = ("train_csv", "train_list")  # may name other images
USERS = ("folder", "lists")  # data whose folder may be anything

Known = Mapping[str, Any]  # the configuration of the data that a checkpoint was trained on; empty where nobody knows


def check_unseen(teacher: CheckedTeacher, data: Known) -> str | None:
    """Look whether a teacher was trained on images that a run holds out: its student would be chosen by what it told.

    Args:
        teacher: it.
        data: the run's configuration of the data.

    Returns:
        A line for the terminal where its file does not say; None where it has not seen them.

    Raises:
        CheckpointError: if it has, or may have.
    """
    known, path = teacher.card.data, teacher.stored.path
    return _check("teacher", path, known, data, "teacher.checkpoint=null to train one")


def check_start(source: str | None, data: Known, begun: bool = False) -> str | None:
    """The same of the weights that a student is to start from.

    Args:
        source: `student.init`; None where it starts from nothing.
        data: the run's configuration of the data.
        begun: whether the run was, by a version that did not look, and can no longer start otherwise.

    Returns:
        A line for the terminal where nobody knows, as of timm's, or the run was begun; None where they have not seen
        them.

    Raises:
        CheckpointError: if they have, or may have.
    """
    if source is None or not data["val_fraction"]:
        return None
    known: Known = {}
    if not source.startswith(TIMM):
        stored = read_stored(find_checkpoint(Path(source).expanduser(), ("student",)))
        source, known = str(stored.path), {} if stored.card is None else stored.card.data
    return _check("student", source, known, data, None if begun else "student.init=null as in the paper")


def _check(kind: str, path: str | Path, known: Known, data: Known, instead: str | None) -> str | None:
    """What `check_unseen` says, of a network of any kind; `instead` is what can be typed to do without it, if any."""
    if not data["val_fraction"]:
        return None
    if not _same_images(known, data):
        return f"{kind}: {path} does not say whether it was trained on images that are held out here"
    changed = [key for key in SPLIT if known.get(key) != data.get(key)]
    if not known.get("val_fraction") or (not changed and known["val_fraction"] < data["val_fraction"]):
        changed = ["val_fraction"]
    if changed:
        key = changed[0]
        theirs, ours = (f"data.{key}={literal(of.get(key))}" for of in (known, data))
        seen = f"{path} was trained with {theirs}, so that with {ours} it has seen images that this run holds out"
        if instead is None:
            return f"{kind}: {seen}"
        raise CheckpointError(f"The {kind} in {seen}; type {instead}, or {theirs}.")
    return None


def _same_images(known: Known, data: Known) -> bool:
    """Whether the images that it was trained on were taken from the same data set."""
    keys = ("name", *LISTS, *(("root",) if data["name"] in USERS else ()))
    return all(known.get(key) == data.get(key) for key in keys)
