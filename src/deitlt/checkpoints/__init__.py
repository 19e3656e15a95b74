"""Checkpoints: read safely and written whole, what they say of their networks, deitlt's own and external ones."""

from deitlt.checkpoints.external import authors_student_state
from deitlt.checkpoints.initial import TIMM, check_start, check_unseen, doubt_images, initialise
from deitlt.checkpoints.io import AtomicCheckpointIO, find_checkpoint, read_checkpoint, write_atomically
from deitlt.checkpoints.loading import (
    TrainedNetwork,
    check_teacher,
    load_student,
    load_teacher,
    load_trained,
    open_known_data,
    read_stored,
    refuse_changed,
)
from deitlt.checkpoints.spec import ModelSpec, StoredNetwork, read_spec

__all__ = [
    "TIMM",
    "AtomicCheckpointIO",
    "ModelSpec",
    "StoredNetwork",
    "TrainedNetwork",
    "authors_student_state",
    "check_start",
    "check_teacher",
    "check_unseen",
    "doubt_images",
    "find_checkpoint",
    "initialise",
    "load_student",
    "load_teacher",
    "load_trained",
    "open_known_data",
    "read_checkpoint",
    "read_spec",
    "read_stored",
    "refuse_changed",
    "write_atomically",
]
