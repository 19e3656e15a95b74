"""Checkpoint files from outside are data: they are read without running anything that they hold."""

import pickle
import warnings
from pathlib import Path
from typing import Any

import torch

from deitlt.errors import CheckpointError

Checkpoint = dict[str, Any]


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Read a checkpoint onto the CPU with `weights_only=True`.

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
