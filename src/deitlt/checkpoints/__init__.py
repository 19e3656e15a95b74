"""Reading checkpoints safely, writing them whole, and making networks of them."""

from deitlt.checkpoints.card import ModelCard, read_card
from deitlt.checkpoints.finding import find_checkpoint
from deitlt.checkpoints.loading import load_student, load_teacher
from deitlt.checkpoints.reading import read_checkpoint
from deitlt.checkpoints.writing import AtomicCheckpointIO, write_atomically

__all__ = [
    "AtomicCheckpointIO",
    "ModelCard",
    "find_checkpoint",
    "load_student",
    "load_teacher",
    "read_card",
    "read_checkpoint",
    "write_atomically",
]
