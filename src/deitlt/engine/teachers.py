"""A teacher's checkpoint: whether it can label these data, and in which order it answers."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from deitlt.checkpoints import ModelCard, StoredNetwork, as_index, foreign_order, order_by_name, read_stored
from deitlt.data import LongTailDataModule
from deitlt.engine.foreign import card_by_recipe
from deitlt.errors import CheckpointError
from deitlt.types import DataInfo


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


def _own_order(card: ModelCard, info: DataInfo, path: Path) -> list[int]:
    """Where each class of the data stands among the teacher's, by their names."""
    order = order_by_name(card.class_names, info.class_names)
    if order is None:
        raise CheckpointError(
            f"The teacher in {path} knows other classes ({', '.join(card.class_names[:3])}, ...) than the data "
            f"({', '.join(info.class_names[:3])}, ...); type teacher.checkpoint=null to train one of these data."
        )
    return order
