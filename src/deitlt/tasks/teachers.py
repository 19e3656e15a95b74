"""A teacher's checkpoint: whether it can label these data, and in which order it answers."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from deitlt.checkpoints import ModelCard, StoredNetwork, as_index, foreign_order, order_by_name, read_stored
from deitlt.data import LongTailDataModule
from deitlt.errors import CheckpointError
from deitlt.tasks.foreign import card_by_recipe
from deitlt.tasks.sweep_words import literal
from deitlt.types import DataInfo

# What says which images are held out, beside their share: one seed holds out the same images first.
SPLIT = ("split_seed", "imbalance_factor", "imbalance_kind", "max_count", "class_order")
LISTS = ("train_csv", "train_list")  # may name other images
USERS = ("folder", "lists")  # data whose folder may be anything


@dataclass(frozen=True)
class CheckedTeacher:
    """A teacher that can label the data.

    stored: its network, not yet made. card: what it is; where its file does not say, what the recipe says.
    class_order: [C], where each class of the data stands among its answers; None where the order is the same.
    """

    stored: StoredNetwork
    card: ModelCard
    class_order: Tensor | None


def check_teacher(path: Path, datamodule: LongTailDataModule, recipe: Mapping[str, Any]) -> CheckedTeacher:
    """Look into a teacher's file.

    Args:
        path: the file, deitlt's or another's.
        datamodule: the data that it is to label.
        recipe: the configuration's node `teacher`, which says what another's file does not.

    Raises:
        CheckpointError: if the file is no teacher's, or knows other classes.
    """
    stored = read_stored(path)
    if stored.kind != "teacher":
        raise CheckpointError(f"{path} holds a {stored.kind}, no teacher; type teacher.checkpoint=FILE of a teacher.")
    info = datamodule.info
    if stored.num_classes != info.num_classes:
        raise CheckpointError(
            f"The teacher in {path} knows {stored.num_classes} classes, but the data have {info.num_classes}; "
            "type teacher.checkpoint=FILE of a teacher of these data, or teacher.checkpoint=null to train one."
        )
    if stored.card is not None:
        return CheckedTeacher(stored, stored.card, as_index(_own_order(stored.card, info, path)))
    choice = recipe.get("label_order", "auto")
    order = foreign_order(stored, info, choice, "teacher.label_order")
    return CheckedTeacher(stored, card_by_recipe(stored, recipe, datamodule, data={}), as_index(order))


def check_unseen(teacher: CheckedTeacher, data: Mapping[str, Any]) -> str | None:
    """Look whether a teacher was trained on images that a run holds out: its student would be chosen by what it told.

    Args:
        teacher: it.
        data: the run's configuration of the data.

    Returns:
        A line for the terminal where its file does not say; None where it has not seen them.

    Raises:
        CheckpointError: if it has, or may have.
    """
    if not data["val_fraction"]:
        return None
    known, path = teacher.card.data, teacher.stored.path
    if not _same_images(known, data):
        return f"teacher: {path} does not say whether it was trained on images that are held out here"
    changed = [key for key in SPLIT if known.get(key) != data.get(key)]
    if not known.get("val_fraction") or (not changed and known["val_fraction"] < data["val_fraction"]):
        changed = ["val_fraction"]
    if changed:
        key = changed[0]
        theirs, ours = (f"data.{key}={literal(of.get(key))}" for of in (known, data))
        raise CheckpointError(
            f"The teacher in {path} was trained with {theirs}, so that with {ours} it has seen images "
            f"that this run holds out; type teacher.checkpoint=null to train one, or {theirs}."
        )
    return None


def _same_images(known: Mapping[str, Any], data: Mapping[str, Any]) -> bool:
    """Whether a teacher's training images were taken from the same data set."""
    keys = ("name", *LISTS, *(("root",) if data["name"] in USERS else ()))
    return all(known.get(key) == data.get(key) for key in keys)


def _own_order(card: ModelCard, info: DataInfo, path: Path) -> list[int]:
    """Where each class of the data stands among the teacher's, by their names."""
    order = order_by_name(card.class_names, info.class_names)
    if order is None:
        raise CheckpointError(
            f"The teacher in {path} knows other classes ({', '.join(card.class_names[:3])}, ...) than the data "
            f"({', '.join(info.class_names[:3])}, ...); type teacher.checkpoint=null to train one of these data."
        )
    return order
