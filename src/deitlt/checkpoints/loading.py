"""Checkpoints as networks, whoever wrote them: to use, to teach, their classes in the order of the data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from deitlt.checkpoints.external import recognise, spec_by_recipe
from deitlt.checkpoints.io import KEY, PREFIX, find_checkpoint, read_checkpoint
from deitlt.checkpoints.spec import (
    TARGETS,
    Kind,
    ModelSpec,
    StoredNetwork,
    as_index,
    external_order,
    order_by_name,
    read_spec,
    refuse_strange_network,
    spec_of,
)
from deitlt.data import DataRequest, LongTailDataModule, SplitOptions
from deitlt.errors import CheckpointError, ConfigError, DataError
from deitlt.models import StudentNetwork, as_logits
from deitlt.types import DataInfo, TokenLogits


def load_teacher(path: str | Path) -> nn.Module:
    """A teacher in evaluation mode: images [B, 3, H, W] -> logits [B, C], cosines if its head is of that kind.

    Reads deitlt's own files, the authors' PaCo and LDAM teachers, and timm's. Classes stay in the file's order.

    Raises:
        CheckpointError: if the file is missing, unsafe, broken, or no teacher's.
    """
    return _of_kind("teacher", path).build()


def load_student(path: str | Path, ema: bool = False) -> StudentNetwork:
    """A student in evaluation mode: images [B, 3, H, W] -> `TokenLogits`.

    Reads deitlt's own files, the authors', and timm's transformers.

    Args:
        path: a checkpoint file, or the folder of a run or stage.
        ema: take the moving average instead of the trained weights.

    Raises:
        CheckpointError: if the file is missing, unsafe, broken, no student's, or has no average.
    """
    network = _of_kind("student", path).build(ema)
    assert isinstance(network, StudentNetwork)
    return network


def read_stored(path: str | Path) -> StoredNetwork:
    """The network in a file, not yet made.

    Raises:
        CheckpointError: if the file is missing, unsafe, broken, or of nobody's making that is known.
    """
    path = Path(path)
    checkpoint = read_checkpoint(path, external=True)
    if KEY not in checkpoint:
        return recognise(checkpoint, path)
    spec = spec_of(checkpoint, path)
    if TARGETS.get(spec.target) != spec.kind:
        refuse_strange_network(spec, path)
    stored = checkpoint.get("state_dict")
    if not isinstance(stored, dict):
        raise CheckpointError(f"{path} holds no weights; type the path of another .ckpt file.")
    weights = {name.removeprefix(PREFIX): value for name, value in stored.items() if name.startswith(PREFIX)}
    return StoredNetwork(path, spec.target, len(spec.class_names), spec.model, weights, checkpoint.get("ema"), spec)


def _of_kind(kind: Kind, path: str | Path) -> StoredNetwork:
    stored = read_stored(find_checkpoint(path, (kind,)))
    if stored.kind != kind:
        raise CheckpointError(f"{path} holds a {stored.kind}, no {kind}; type the path of a {kind}'s checkpoint.")
    return stored


@dataclass(frozen=True)
class TrainedNetwork:
    """A network in evaluation mode with what its checkpoint says of it.

    spec: with the classes in the order of `logits`. class_order: [C], where each of them stands among the network's
    own logits; None where the order is the same.
    """

    path: Path
    spec: ModelSpec
    network: nn.Module
    device: torch.device
    class_order: Tensor | None = None

    @torch.no_grad()
    def logits(self, images: Tensor) -> TokenLogits:
        """images: [B, 3, H, W], normalised, on any device -> logits [B, C] of each token, on the CPU."""
        cls, dist = as_logits(self.network(images.to(self.device)), self.class_order, self.spec.logit_scale)
        return TokenLogits(cls.cpu(), None if dist is None else dist.cpu())

    def in_order_of(self, info: DataInfo) -> "TrainedNetwork":
        """The network with its classes in the order of these data.

        Raises:
            DataError: if they are not the classes that the network knows.
        """
        order = order_by_name(self.spec.class_names, info.class_names)
        if order is None:
            raise DataError(
                f"The data have the classes {_few(info.class_names)}, but {self.path} knows "
                f"{_few(self.spec.class_names)}; type data=CHOICE of data with the same classes."
            )
        if as_index(order) is None:
            return self
        assert self.class_order is None, "a file without a spec gets the data's own order"
        return replace(self, spec=self.spec.in_order(order), class_order=as_index(order))

    @property
    def own_spec(self) -> ModelSpec:
        """The spec with its classes in the order of the network's own logits."""
        return self.spec if self.class_order is None else self.spec.in_order(self.class_order.argsort().tolist())


def check_teacher(path: Path, datamodule: LongTailDataModule, recipe: Mapping[str, Any]) -> TrainedNetwork:
    """Read a teacher's file, deitlt's or another's, and compare its classes with those of the data.

    Args:
        path: the file.
        datamodule: the data that it is to label.
        recipe: the configuration's node `teacher`, which says what an external file does not.

    Raises:
        CheckpointError: if the file is no teacher's, or knows other classes.
    """
    stored, info = read_stored(path), datamodule.info
    if stored.kind != "teacher":
        raise CheckpointError(f"{path} holds a {stored.kind}, no teacher; type teacher.checkpoint=FILE of a teacher.")
    if stored.num_classes != info.num_classes:
        raise CheckpointError(
            f"The teacher in {path} knows {stored.num_classes} classes, but the data have {info.num_classes}; "
            "type teacher.checkpoint=FILE of a teacher of these data, or teacher.checkpoint=null to train one."
        )
    if (spec := stored.spec) is None:
        spec = spec_by_recipe(stored, recipe, datamodule, data={})
        order = external_order(stored, info, recipe.get("label_order", "auto"), "teacher.label_order")
    else:
        found = order_by_name(spec.class_names, info.class_names)
        if found is None:
            raise CheckpointError(
                f"The teacher in {path} knows other classes ({_few(spec.class_names)}) than the data "
                f"({_few(info.class_names)}); type teacher.checkpoint=null to train one of these data."
            )
        spec, order = spec.in_order(found), found
    return TrainedNetwork(path, spec, stored.build(), torch.device("cpu"), as_index(order))


def refuse_changed(path: Path, datamodule: LongTailDataModule) -> None:
    """Raise DataError where the data are not those that one of a run's checkpoints was trained on."""
    if changed := read_spec(path).changes(datamodule.info, datamodule.images):
        raise DataError(
            f"The data are not those that {path} was trained on: {changed}; put them back as they were, or begin anew "
            "with another paths.output_dir=FOLDER."
        )


def load_trained(
    path: Path, ema: bool, device: torch.device, recipe: Mapping[str, Any] | None = None, label_order: str = "auto"
) -> TrainedNetwork:
    """Read a network and place it on a device.

    Args:
        path: the checkpoint file.
        ema: of a student, the moving average.
        device: where it is to lie.
        recipe: the nodes `data`, `teacher` and `student` of the configuration that an external file was trained with.
        label_order: of an external file, see `external_order`.

    Raises:
        ConfigError: for an average of a teacher.
        CheckpointError: if the file is missing, unsafe or broken, or says too little of itself.
    """
    stored = read_stored(path)
    if ema and stored.kind == "teacher":
        raise ConfigError(f"ema=true, but {path} holds a teacher, which has no moving average; type ema=false.")
    spec, order = stored.spec, None
    if spec is None:
        if recipe is None:
            raise CheckpointError(
                f"{path} was not written by deitlt and does not say which data it knows; type experiment=NAME "
                "with it, the recipe of those data, such as experiment=cifar10_lt_if100."
            )
        data = known_data(recipe["data"])
        datamodule = open_known_data(data)
        spec = spec_by_recipe(stored, recipe[stored.kind], datamodule, data)
        order = as_index(external_order(stored, datamodule.info, label_order, "label_order"))
    return TrainedNetwork(path, spec, stored.build(ema).to(device), device, order)


# What says which images a data set has; a file's other keys are not looked at.
DATA_KEYS = (*(field.name for kind in (DataRequest, SplitOptions) for field in fields(kind)), "on_broken")


def known_data(configuration: Mapping[str, Any]) -> dict[str, Any]:
    """The values of `DATA_KEYS`, so that nothing that a file names is called."""
    return {key: value for key, value in configuration.items() if key in DATA_KEYS}


def open_known_data(configuration: Mapping[str, Any], **options: Any) -> LongTailDataModule:
    """The data of a spec or recipe; `options` are further arguments of the data module.

    Raises:
        DataError: if the data cannot be read.
    """
    return LongTailDataModule.from_keys(**known_data(configuration), **options)


def _few(names: Sequence[str]) -> str:
    return f"{', '.join(names[:3])}, ... ({len(names)})" if len(names) > 3 else ", ".join(names)
