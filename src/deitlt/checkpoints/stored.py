"""A network as it lies in a file, whoever wrote it: how to make it, and its weights."""

from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Any, Literal

from torch import Tensor, nn

import deitlt.models
from deitlt.checkpoints.card import ModelCard
from deitlt.errors import CheckpointError

Weights = dict[str, Tensor]
Kind = Literal["teacher", "student"]
Layout = Literal["deitlt", "paco", "resnet", "vit", "timm"]
# What a file may ask for, by its name in `deitlt.models`, and what comes of it.
MAKERS: dict[str, Kind] = {
    "create_teacher": "teacher",
    "create_paco_teacher": "teacher",
    "create_student": "student",
}


@dataclass(frozen=True)
class StoredNetwork:
    """What is needed to make one network.

    path: of the file. maker: of `MAKERS`. model: its arguments, without the class count. weights: the
    network's own, by its own names. average: the moving average of them, where the file has one. layout: how
    the file holds them: as 'deitlt' does, as PaCo's pair of encoders, as a 'resnet' (LDAM's teachers), as a
    'vit' of timm's names (the authors' students), or as another network of 'timm's. card: what our own files
    say of themselves; None for others'.
    """

    path: Path
    maker: str
    num_classes: int
    model: dict[str, Any]
    weights: Weights
    average: Weights | None
    layout: Layout
    card: ModelCard | None = None

    @property
    def kind(self) -> Kind:
        """'teacher' or 'student'."""
        return MAKERS[self.maker]

    def build(self, ema: bool = False) -> nn.Module:
        """The network in evaluation mode, with its weights or their moving average.

        Raises:
            CheckpointError: if the file has no average, or its parts do not belong together.
        """
        if ema and self.average is None:
            raise CheckpointError(f"{self.path} holds no moving average; type ema=false.")
        maker = getattr(deitlt.models, self.maker)  # one of MAKERS
        if strange := sorted(set(self.model) - set(signature(maker).parameters)):
            asked = f"{self.path} asks for {strange[0]!r}"
            raise CheckpointError(f"{asked}, which this version does not know; update deitlt.")
        try:
            network: nn.Module = maker(self.num_classes, **self.model)
            network.load_state_dict(self.average if ema and self.average is not None else self.weights)
        except (RuntimeError, TypeError, AttributeError) as error:  # also of arguments of strange types
            raise CheckpointError(
                f"{self.path} does not hold the weights that it says it holds; take an older one."
            ) from error
        return network.eval()


def shape_of(weights: Weights, name: str, dimensions: int) -> tuple[int, ...] | None:
    """The shape of one of the weights; None if it is not there or has not so many dimensions."""
    found = weights.get(name)
    return tuple(found.shape) if found is not None and found.ndim == dimensions else None


def count_blocks(weights: Weights, stage: str) -> int:
    """How many numbered parts `stage.0`, `stage.1`, ... the weights name."""
    numbers = (name.removeprefix(f"{stage}.").split(".")[0] for name in weights if name.startswith(f"{stage}."))
    return len({number for number in numbers if number.isdigit()})
