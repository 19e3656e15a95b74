"""Checkpoint files from outside are data: they are read without running anything that they hold."""

import pickle
import warnings
from pathlib import Path
from typing import Any

import torch
from torch.serialization import safe_globals

from deitlt.errors import CheckpointError

Checkpoint = dict[str, Any]


class StandIn:
    """Takes the place of an object that a file describes, and keeps nothing of what the file says of it."""

    __slots__ = ()

    def __new__(cls, *arguments: object) -> "StandIn":
        """Whatever the file would call the class with."""
        return super().__new__(cls)

    def __init__(self, *arguments: object) -> None:
        """Nothing is kept of the arguments."""

    def __setstate__(self, state: object) -> None:
        """Nothing is kept of the state."""


# What people's files hold beside weights: the command line, with paths and NumPy's numbers in it.
_REPLACED = (
    "argparse.Namespace",
    *(f"{module}.{name}" for module in ("pathlib", "pathlib._local") for name in ("PosixPath", "WindowsPath")),
    *("numpy.dtype", "numpy._core.multiarray.scalar", "numpy.core.multiarray.scalar"),
)


def read_checkpoint(path: str | Path, foreign: bool = False) -> Checkpoint:
    """Read a checkpoint onto the CPU with `weights_only=True`.

    Args:
        path: the file.
        foreign: also read a file with a command line's arguments in it, as others write; an inert `StandIn`
            is in their place.

    Raises:
        CheckpointError: if the file is missing, is no checkpoint, or holds objects that only running code
            could rebuild.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"There is no checkpoint {path}; type the path of a .ckpt file, or of a run's folder.")
    try:
        with warnings.catch_warnings():  # what torch says of a strange pickle, our sentence says
            warnings.simplefilter("ignore")
            with safe_globals([(StandIn, name) for name in _REPLACED] if foreign else []):
                content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(_why_unreadable(path, str(error))) from error
    except PermissionError as error:
        raise CheckpointError(f"{path} may not be read by you; type chmod +r {path}, or another path.") from error
    except Exception as error:  # torch has many ways to fail on a broken or truncated file
        raise CheckpointError(_no_checkpoint(path)) from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, no checkpoint; type the path of a .ckpt file.")
    return content


def _why_unreadable(path: Path, reason: str) -> str:
    if "Unsupported global" in reason or "GLOBAL" in reason or "REDUCE" in reason:
        return (
            f"{path} wants to run code while it is read, and was refused; "
            "type the path of a file that holds weights only, such as a .ckpt that deitlt wrote."
        )
    return _no_checkpoint(path)


def _no_checkpoint(path: Path) -> str:
    return f"{path} is no checkpoint; type the path of a .ckpt file that deitlt wrote."
