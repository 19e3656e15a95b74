"""What a checkpoint says of its network (`ModelSpec`), the network as it lies in a file, and its order of classes."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from inspect import signature
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from torch import Tensor, nn

import deitlt.models
from deitlt.checkpoints.io import EXPORTED, KEY, Checkpoint, read_checkpoint
from deitlt.config.trust import advice, is_own, refuse_strange_targets
from deitlt.errors import CheckpointError, ConfigError, nearest
from deitlt.models import answer_in_float32
from deitlt.types import DataInfo, Normalisation

Weights = dict[str, Tensor]
Kind = Literal["teacher", "student"]
# What any file may ask for, and the kind of network that comes of it. Else only what `config.trust` lets be called.
TARGETS: dict[str, Kind] = {
    "deitlt.models.create_teacher": "teacher",
    "deitlt.models.create_paco_teacher": "teacher",
    "deitlt.models.create_student": "student",
}
LABEL_ORDERS = ("auto", "original", "authors", "sorted")


@dataclass(frozen=True)
class ModelSpec:
    """A network's architecture, input, classes and training data: all that is needed to use it.

    kind: 'teacher' or 'student'. target: of `TARGETS`, or of one's own, what makes the network. model: its
    arguments, without the class count. image_size: pixels a side of its input. crop_share: of the evaluation transform.
    logit_scale: factor from its outputs to logits (a cosine head gives cosines). protocol: how the epoch of
    'best.ckpt' is chosen; '' where the file does not say. labels, authors_labels: of the classes, as in
    `DataInfo`. data: the configuration of the training data, as plain values. images: of each split, which images it
    had (see `data.splits.which_images`); empty where the file, an older one or an external one, does not say.
    """

    kind: Kind
    target: str
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
    images: dict[str, list[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, info: DataInfo, normalisation: Normalisation, **fields: Any) -> "ModelSpec":
        """The spec of a network for some data; `fields` are what the data do not say."""
        return cls(
            mean=list(normalisation.mean),
            std=list(normalisation.std),
            class_names=list(info.class_names),
            labels=list(info.labels),
            authors_labels=list(info.authors_labels),
            counts=list(info.counts),
            groups={name: list(classes) for name, classes in info.groups.items()},
            **fields,
        )

    @property
    def normalisation(self) -> Normalisation:
        """Statistics that its input is normalised with."""
        return Normalisation((self.mean[0], self.mean[1], self.mean[2]), (self.std[0], self.std[1], self.std[2]))

    @property
    def info(self) -> DataInfo:
        """What its training data were."""
        return DataInfo(
            num_classes=len(self.class_names),
            counts=tuple(self.counts),
            class_names=tuple(self.class_names),
            groups={name: tuple(classes) for name, classes in self.groups.items()},
            labels=tuple(self.labels),
            authors_labels=tuple(self.authors_labels),
        )

    def in_order(self, order: Sequence[int]) -> "ModelSpec":
        """The spec with its classes in another order: the new class c is what was class order[c]."""
        place = {old: new for new, old in enumerate(order)}
        return replace(
            self,
            class_names=[self.class_names[c] for c in order],
            labels=[self.labels[c] for c in order],
            counts=[self.counts[c] for c in order],
            groups={name: sorted(place[c] for c in classes) for name, classes in self.groups.items()},
            images={split: [images[c] for c in order] for split, images in self.images.items()},
        )

    def changes(self, info: DataInfo, images: Mapping[str, Sequence[str]]) -> str | None:
        """What of the data is not as it was, in words; None where nothing is.

        Args:
            info: what the data are.
            images: which images they have.
        """
        known, found = self.class_names, list(info.class_names)
        if known != found or self.labels != list(info.labels):
            gone, new = sorted(set(known) - set(found)), sorted(set(found) - set(known))
            moved = [f"class {name!r} is gone" for name in gone] + [f"class {name!r} is new" for name in new]
            return _first_of(moved or ["their classes have another order"])
        then: Mapping[str, Sequence[str]] = self.images or {"training": [str(count) for count in self.counts]}
        now = images if self.images else {"training": [str(count) for count in info.counts]}
        changed = []
        for split in (split for split in then if split in now):
            for name, before, after in zip(known, then[split], now[split], strict=True):
                had, has = before.partition(" ")[0], after.partition(" ")[0]
                if had != has:
                    changed.append(f"class {name!r} had {had} {split} images and has {has}")
                elif before != after:
                    changed.append(f"class {name!r} has other {split} images")
        return _first_of(changed) if changed else None

    def protocol_of(self, file: str) -> str:
        """How the epoch in the checkpoint of that name was chosen: in any but these it is the last one."""
        return self.protocol if not self.protocol or file in ("best.ckpt", EXPORTED) else "last"

    def as_plain(self) -> dict[str, Any]:
        """Plain containers and numbers, which a safe reader accepts."""
        return asdict(self)


def read_spec(path: str | Path) -> ModelSpec:
    """The spec in a checkpoint file.

    Raises:
        CheckpointError: if there is no such file, or deitlt did not write it.
    """
    return spec_of(read_checkpoint(path, external=True), path)


def spec_of(checkpoint: Checkpoint, path: str | Path) -> ModelSpec:
    """The spec in an opened checkpoint; `path` is for the message."""
    found = checkpoint.get(KEY)
    kinds = {known.name: known.type for known in fields(ModelSpec)}
    needed = {known.name for known in fields(ModelSpec) if known.default_factory is MISSING}
    if not isinstance(found, dict) or not needed <= set(found) <= set(kinds):
        raise CheckpointError(
            f"{path} was not written by deitlt, or by an older version; type the path of a teacher's or student's "
            ".ckpt file."
        )
    if wrong := [name for name in found if not _is(found[name], kinds[name])]:
        raise CheckpointError(f"{path} is damaged: it says {found[wrong[0]]!r} for {wrong[0]}; take an older one.")
    return ModelSpec(**found)


def refuse_strange_network(spec: ModelSpec, path: str | Path) -> None:
    """Raise CheckpointError where a file's network is none of `TARGETS` and not of a trusted module either."""
    if spec.target in TARGETS or not is_own(spec.target):
        raise CheckpointError(
            f"{path} asks for {spec.target!r}, which makes no {spec.kind} that deitlt knows; "
            f"{advice(spec.target, 'take another file')}"
        )


def _first_of(changes: Sequence[str]) -> str:
    others = len(changes) - 1
    return changes[0] + (f", and there {'is' if others == 1 else 'are'} {others} more such" if others else "")


def _is(value: Any, kind: Any) -> bool:
    """Whether a value from a file is of the kind that a field is declared to be; one level deep."""
    kind, inner = get_origin(kind) or kind, get_args(kind)
    if kind is Literal:
        return value in inner
    if kind is list:
        return isinstance(value, list) and all(_is(item, inner[0]) for item in value)
    return isinstance(value, int | float) if kind is float else isinstance(value, kind)


@dataclass(frozen=True)
class StoredNetwork:
    """A network as it lies in a file: how to make it, and its weights.

    path: of the file. target: as in `ModelSpec`. model: its arguments, without the class count. weights: by the
    network's own names. average: their moving average, where the file has one. spec: what our own files say; None
    for external ones. is_paco: whether an external file holds PaCo's pair of encoders.
    """

    path: Path
    target: str
    num_classes: int
    model: dict[str, Any]
    weights: Weights
    average: Weights | None
    spec: ModelSpec | None = None
    is_paco: bool = False

    @property
    def kind(self) -> Kind:
        """'teacher' or 'student'."""
        return TARGETS[self.target] if self.spec is None else self.spec.kind

    @property
    def digest(self) -> str:
        """Of the weights, whatever else is in the file and wherever it lies."""
        found = hashlib.sha256()
        for name, value in sorted(self.weights.items()):
            found.update(f"{name} {value.dtype} {tuple(value.shape)} ".encode())
            found.update(value.detach().reshape(-1).view(torch.uint8).numpy().data)
        return found.hexdigest()

    def build(self, ema: bool = False) -> nn.Module:
        """The network in evaluation mode, with its weights or their moving average.

        Raises:
            CheckpointError: if the file has no average, or its parts do not belong together.
        """
        if ema and self.average is None:
            raise CheckpointError(f"{self.path} holds no moving average; type ema=false.")
        if self.target not in TARGETS:
            return self._build_own(ema)
        create = getattr(deitlt.models, self.target.removeprefix("deitlt.models."))
        if strange := sorted(set(self.model) - set(signature(create).parameters)):
            asked = f"{self.path} asks for {strange[0]!r}"
            raise CheckpointError(f"{asked}, which this version does not know; update deitlt.")
        try:
            network: nn.Module = create(self.num_classes, **self.model)
            network.load_state_dict(self.average if ema and self.average is not None else self.weights)
        except (RuntimeError, TypeError, AttributeError) as error:  # also of arguments of strange types
            raise CheckpointError(
                f"{self.path} does not hold the weights that it says it holds; take an older one."
            ) from error
        return network.eval()

    def _build_own(self, ema: bool) -> nn.Module:
        """A network of the user's own, whose code may have changed since."""
        node = {"_target_": self.target, **self.model}
        refuse_strange_targets(node, str(self.path))
        try:
            network: nn.Module = instantiate(node, num_classes=self.num_classes, _convert_="all")
            network.load_state_dict(self.average if ema and self.average is not None else self.weights)
        except (RuntimeError, TypeError, AttributeError, InstantiationException) as error:
            text = " ".join(str(error.__cause__ or error).split()).rstrip(".")
            raise CheckpointError(
                f"{self.path} was written by another {self.target} than is here now ({text}); put its code back as it "
                "was."
            ) from error
        return answer_in_float32(network).eval()


def order_by_name(known: Sequence[str], wanted: Sequence[str]) -> list[int] | None:
    """Where among the known classes each wanted one stands; None if they are not the same classes.

    Names that two classes share tell nothing of an order: such lists must be equal.
    """
    if list(known) == list(wanted):
        return list(range(len(known)))
    places = {name: place for place, name in enumerate(known)}
    if not len(known) == len(wanted) == len(places) or set(places) != set(wanted):
        return None
    return [places[name] for name in wanted]


def external_order(stored: StoredNetwork, info: DataInfo, choice: str, key: str) -> list[int]:
    """Where each class of the data stands among the logits of a network whose file does not say.

    Data of published lists are sorted by their counts. PaCo's teachers of ImageNet-LT and iNaturalist have the data
    set's original order, the authors' other networks an order by count whose many ties fall otherwise than ours.

    Args:
        stored: the network.
        info: the data's labels, in their order and in the authors'.
        choice: 'sorted' as the data are, 'original' as the data set's labels are, 'authors' by count with the ties of
            the authors' code, or 'auto', as the published files are: PaCo's teachers in the original order, LDAM's
            teachers and the students in the authors'.
        key: what the user types to choose, for messages.

    Raises:
        ConfigError: for another choice.
        CheckpointError: if the original labels are no order of the classes.
    """
    if choice not in LABEL_ORDERS:
        raise ConfigError(f"{key}={choice} is no choice; {nearest(choice, LABEL_ORDERS)}")
    if choice == "auto":
        choice = "original" if stored.is_paco else "authors"
    if choice == "sorted" or (choice == "authors" and not info.authors_labels):
        return list(range(info.num_classes))
    if choice == "authors":
        places = {label: place for place, label in enumerate(info.authors_labels)}
        return [places[label] for label in info.labels]
    if sorted(info.labels) != list(range(info.num_classes)):
        raise CheckpointError(
            f"{stored.path} may answer in the order of the data set's own labels, but here these go from "
            f"{min(info.labels)} to {max(info.labels)} for {info.num_classes} classes; type {key}=sorted."
        )
    return list(info.labels)


def as_index(order: Sequence[int]) -> Tensor | None:
    """An order of classes as the index [C] that picks columns of logits [B, C]; None if it would change nothing."""
    return None if list(order) == list(range(len(order))) else torch.tensor(order)
