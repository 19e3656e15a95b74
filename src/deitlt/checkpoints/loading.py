"""Checkpoints as networks that answer images."""

from inspect import signature
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor, nn

from deitlt.checkpoints.card import ModelCard, card_of
from deitlt.checkpoints.reading import Checkpoint, read_checkpoint
from deitlt.errors import CheckpointError
from deitlt.models import StudentNetwork, create_student, create_teacher

Network = TypeVar("Network", bound=nn.Module)
PREFIX = "network."  # of the network's weights among a module's


def load_teacher(path: str | Path) -> nn.Module:
    """A teacher ready to answer: images [B, 3, H, W] -> logits [B, C].

    Raises:
        CheckpointError: if the file is missing, unsafe, broken, or no teacher's.
    """
    checkpoint, card = _read(path, "teacher")
    network = create_teacher(len(card.class_names), **_arguments(card, path))
    return _filled(network, _weights(checkpoint), path)


def load_student(path: str | Path, ema: bool = False) -> StudentNetwork:
    """A student ready to answer: images [B, 3, H, W] -> `TokenLogits`.

    Args:
        path: a checkpoint file.
        ema: take the moving average instead of the trained weights.

    Raises:
        CheckpointError: if the file is missing, unsafe, broken, no student's, or has no average.
    """
    checkpoint, card = _read(path, "student")
    if ema and "ema" not in checkpoint:
        raise CheckpointError(f"{path} holds no moving average; type ema=false.")
    network = create_student(len(card.class_names), **_arguments(card, path))
    return _filled(network, checkpoint["ema"] if ema else _weights(checkpoint), path)


def _read(path: str | Path, kind: str) -> tuple[Checkpoint, ModelCard]:
    checkpoint = read_checkpoint(path)
    card = card_of(checkpoint, path)
    if card.kind != kind:
        raise CheckpointError(f"{path} holds a {card.kind}, no {kind}; type the path of a {kind}'s checkpoint.")
    return checkpoint, card


def _arguments(card: ModelCard, path: str | Path) -> dict[str, Any]:
    """The model's arguments; a file may not ask for any that its maker does not know."""
    maker = create_teacher if card.kind == "teacher" else create_student
    if strange := sorted(set(card.model) - set(signature(maker).parameters)):
        raise CheckpointError(f"{path} asks for {strange[0]!r}, which this version does not know; update deitlt.")
    return card.model


def _weights(checkpoint: Checkpoint) -> dict[str, Tensor]:
    stored = checkpoint.get("state_dict", {})
    return {name.removeprefix(PREFIX): value for name, value in stored.items() if name.startswith(PREFIX)}


def _filled(network: Network, weights: dict[str, Tensor], path: str | Path) -> Network:
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise CheckpointError(f"{path} does not hold the weights that it says it holds; take an older one.") from error
    return network.eval()
