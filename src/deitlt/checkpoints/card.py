"""What a checkpoint says of itself, so that it can be used without any configuration."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from deitlt.checkpoints.reading import Checkpoint, read_checkpoint
from deitlt.errors import CheckpointError
from deitlt.types import DataInfo, Normalisation

KEY = "deitlt"  # where a checkpoint holds its card


@dataclass(frozen=True)
class ModelCard:
    """The network's making, its input, its classes, and the data that it was trained on.

    kind: 'teacher' or 'student'. maker: the name in `deitlt.models` of the function that makes the network.
    model: the maker's arguments, without the class count. image_size: pixels a side of its input.
    crop_share: of the evaluation view. logit_scale: what its answers are multiplied with before a softmax
    (a cosine head answers cosines). protocol: how the epoch of 'best.ckpt' is chosen; '' where nobody knows.
    labels, authors_labels: of the classes, as in `DataInfo`. data: the configuration of the training data, as
    plain values.
    """

    kind: Literal["teacher", "student"]
    maker: str
    model: dict[str, Any]
    image_size: int
    mean: list[float]
    std: list[float]
    crop_share: float
    logit_scale: float
    protocol: str
    class_names: list[str]
    labels: list[int]
    authors_labels: list[int]
    counts: list[int]
    groups: dict[str, list[int]]
    data: dict[str, Any]

    @property
    def normalisation(self) -> Normalisation:
        """Statistics that its input is normalised with."""
        return Normalisation((self.mean[0], self.mean[1], self.mean[2]), (self.std[0], self.std[1], self.std[2]))

    @property
    def info(self) -> DataInfo:
        """What its training data were."""
        groups = {name: tuple(classes) for name, classes in self.groups.items()}
        return DataInfo(
            num_classes=len(self.class_names),
            counts=tuple(self.counts),
            class_names=tuple(self.class_names),
            groups=groups,
            labels=tuple(self.labels),
            authors_labels=tuple(self.authors_labels),
        )

    def in_order(self, order: Sequence[int]) -> "ModelCard":
        """The card with its classes in another order: the new class c is what was class order[c]."""
        place = {old: new for new, old in enumerate(order)}
        return replace(
            self,
            class_names=[self.class_names[c] for c in order],
            labels=[self.labels[c] for c in order],
            counts=[self.counts[c] for c in order],
            groups={name: sorted(place[c] for c in classes) for name, classes in self.groups.items()},
        )

    def as_plain(self) -> dict[str, Any]:
        """Plain containers and numbers, which a safe reader accepts."""
        return asdict(self)


def read_card(path: str | Path) -> ModelCard:
    """The card of a checkpoint file.

    Raises:
        CheckpointError: if there is no such file, or it holds no card of ours.
    """
    return card_of(read_checkpoint(path, foreign=True), path)


def card_of(checkpoint: Checkpoint, path: str | Path) -> ModelCard:
    """The card in an opened checkpoint; `path` is for the message."""
    found = checkpoint.get(KEY)
    kinds = {field.name: field.type for field in fields(ModelCard)}
    if not isinstance(found, dict) or set(found) != set(kinds):
        raise CheckpointError(
            f"{path} was not written by deitlt, or by an older version; type the path of a teacher's or student's "
            ".ckpt file."
        )
    if wrong := [name for name, kind in kinds.items() if not _is(found[name], kind)]:
        raise CheckpointError(f"{path} is damaged: it says {found[wrong[0]]!r} for {wrong[0]}; take an older one.")
    return ModelCard(**found)


def _is(value: Any, kind: Any) -> bool:
    """Whether a value from a file is of the kind that a field is declared to be; one level deep."""
    kind, inner = get_origin(kind) or kind, get_args(kind)
    if kind is Literal:
        return value in inner
    if kind is list:
        return isinstance(value, list) and all(_is(item, inner[0]) for item in value)
    return isinstance(value, int | float) if kind is float else isinstance(value, kind)
