"""Reading checkpoints safely, writing them whole, and making networks of them."""

from deitlt.checkpoints.card import ModelCard, read_card
from deitlt.checkpoints.fetching import WANDB, fetch_checkpoint
from deitlt.checkpoints.finding import find_checkpoint
from deitlt.checkpoints.foreign_card import foreign_card
from deitlt.checkpoints.foreign_writing import authors_student_state
from deitlt.checkpoints.initial import TIMM, initialise
from deitlt.checkpoints.label_order import as_index, foreign_order, order_by_name
from deitlt.checkpoints.loading import load_student, load_teacher, read_stored
from deitlt.checkpoints.reading import read_checkpoint
from deitlt.checkpoints.stored import StoredNetwork
from deitlt.checkpoints.writing import AtomicCheckpointIO, write_atomically

__all__ = [
    "TIMM",
    "WANDB",
    "AtomicCheckpointIO",
    "ModelCard",
    "StoredNetwork",
    "as_index",
    "authors_student_state",
    "fetch_checkpoint",
    "find_checkpoint",
    "foreign_card",
    "foreign_order",
    "initialise",
    "load_student",
    "load_teacher",
    "order_by_name",
    "read_card",
    "read_checkpoint",
    "read_stored",
    "write_atomically",
]
