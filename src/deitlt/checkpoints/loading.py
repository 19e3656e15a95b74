"""Checkpoints as networks that answer images, whoever wrote them."""

from pathlib import Path

from torch import nn

from deitlt.checkpoints.card import KEY, card_of
from deitlt.checkpoints.finding import find_checkpoint
from deitlt.checkpoints.foreign import recognise
from deitlt.checkpoints.reading import Checkpoint, read_checkpoint
from deitlt.checkpoints.stored import MAKERS, Kind, StoredNetwork, Weights
from deitlt.errors import CheckpointError
from deitlt.models import StudentNetwork

PREFIX = "network."  # of the network's weights among a module's


def load_teacher(path: str | Path) -> nn.Module:
    """A teacher ready to answer: images [B, 3, H, W] -> logits [B, C], cosines if its head is of that kind.

    Reads deitlt's own files, the authors' PaCo and LDAM teachers, and timm's. Classes stay in the file's order.

    Raises:
        CheckpointError: if the file is missing, unsafe, broken, or no teacher's.
    """
    return _of_kind("teacher", path).build()


def load_student(path: str | Path, ema: bool = False) -> StudentNetwork:
    """A student ready to answer: images [B, 3, H, W] -> `TokenLogits`.

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
    checkpoint = read_checkpoint(path, foreign=True)
    if KEY not in checkpoint:
        return recognise(checkpoint, path)
    card = card_of(checkpoint, path)
    if MAKERS.get(card.maker) != card.kind:
        raise CheckpointError(f"{path} asks for {card.maker!r}, which makes no {card.kind}; update deitlt.")
    average = checkpoint.get("ema")
    return StoredNetwork(
        path, card.maker, len(card.class_names), card.model, _weights(checkpoint, path), average, "deitlt", card
    )


def _of_kind(kind: Kind, path: str | Path) -> StoredNetwork:
    stored = read_stored(find_checkpoint(path, (kind,)))
    if stored.kind != kind:
        raise CheckpointError(f"{path} holds a {stored.kind}, no {kind}; type the path of a {kind}'s checkpoint.")
    return stored


def _weights(checkpoint: Checkpoint, path: Path) -> Weights:
    stored = checkpoint.get("state_dict")
    if not isinstance(stored, dict):
        raise CheckpointError(f"{path} holds no weights; type the path of another .ckpt file.")
    return {name.removeprefix(PREFIX): value for name, value in stored.items() if name.startswith(PREFIX)}
