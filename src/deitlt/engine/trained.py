"""A trained network taken from its checkpoint, ready to answer images on a device."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from deitlt.checkpoints import (
    ModelCard,
    StoredNetwork,
    as_index,
    find_checkpoint,
    foreign_order,
    order_by_name,
    read_stored,
)
from deitlt.engine.card_data import known_data, open_card_data
from deitlt.engine.devices import count_devices
from deitlt.engine.foreign import card_by_recipe
from deitlt.engine.stage_config import STAGES, plain
from deitlt.errors import CheckpointError, ConfigError, DataError, nearest
from deitlt.models import in_class_order
from deitlt.types import DataInfo, TokenLogits


@dataclass(frozen=True)
class TrainedNetwork:
    """A network in evaluation mode with what its checkpoint says of it.

    card: in the order in which `answer` has the classes. class_order: [C], where each of them stands among
    the network's own answers; None where the order is the same.
    """

    path: Path
    card: ModelCard
    network: nn.Module
    device: torch.device
    class_order: Tensor | None = None

    @torch.no_grad()
    def answer(self, images: Tensor) -> TokenLogits:
        """images: [B, 3, H, W], normalised, on any device -> logits [B, C] of each token, on the CPU."""
        logits = self.network(images.to(self.device))
        if not isinstance(logits, TokenLogits):
            return TokenLogits(in_class_order(self.card.logit_scale * logits.cpu(), self.class_order), None)
        cls, dist = (None if token is None else in_class_order(token.cpu(), self.class_order) for token in logits)
        assert cls is not None
        return TokenLogits(cls, dist)

    def in_order_of(self, info: DataInfo) -> "TrainedNetwork":
        """The network with its classes in the order of these data.

        Raises:
            DataError: if they are not the classes that the network knows.
        """
        order = order_by_name(self.card.class_names, info.class_names)
        if order is None:
            raise DataError(
                f"The data have the classes {_few(info.class_names)}, but {self.path} knows "
                f"{_few(tuple(self.card.class_names))}; type data=CHOICE of data with the same classes."
            )
        if as_index(order) is None:
            return self
        assert self.class_order is None, "a file without a card gets the data's own order"
        return replace(self, card=self.card.in_order(order), class_order=as_index(order))


def load_trained(
    checkpoint: str,
    stage: str,
    ema: bool,
    accelerator: str,
    recipe: DictConfig | None = None,
    label_order: str = "auto",
) -> TrainedNetwork:
    """Find, read and place a network.

    Args:
        checkpoint: a file, or the folder of a run or stage.
        stage: which stage of a run's folder.
        ema: of a student, the moving average.
        accelerator: auto | cpu | gpu.
        recipe: the configuration of training that says what a file that deitlt did not write leaves out.
        label_order: in which order such a file answers: auto | original | authors | sorted.

    Raises:
        ConfigError: for an unknown stage, or an average of a teacher.
        CheckpointError: if the file is missing, unsafe or broken, or says too little of itself.
    """
    if stage not in STAGES:
        raise ConfigError(f"stage={stage} is no stage; {nearest(stage, STAGES)}")
    path = find_checkpoint(checkpoint, (stage,), "stage")
    stored = read_stored(path)
    if ema and stored.kind == "teacher":
        raise ConfigError(f"ema=true, but {path} holds a teacher, which has no moving average; type ema=false.")
    card, order = (stored.card, None) if stored.card is not None else _described(stored, recipe, label_order)
    device = torch.device("cuda" if count_devices(accelerator, 1, "accelerator")[0] == "gpu" else "cpu")
    return TrainedNetwork(path, card, stored.build(ema).to(device), device, order)


def _described(stored: StoredNetwork, recipe: DictConfig | None, label_order: str) -> tuple[ModelCard, Tensor | None]:
    """A card by the recipe, and where its classes stand among the network's answers."""
    if recipe is None:
        raise CheckpointError(
            f"{stored.path} was not written by deitlt and does not say which data it knows; type experiment=NAME "
            "with it, the recipe of those data, such as experiment=cifar10_lt_if100."
        )
    data = known_data(plain(recipe.data))
    datamodule = open_card_data(data)
    card = card_by_recipe(stored, plain(recipe[stored.kind]), datamodule, data)
    return card, as_index(foreign_order(stored, datamodule.info, label_order, "label_order"))


def _few(names: tuple[str, ...]) -> str:
    return f"{', '.join(names[:3])}, ... ({len(names)})" if len(names) > 3 else ", ".join(names)
