"""Files are written beside their place and then moved there, so that no one ever sees half of one."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from deitlt.checkpoints.reading import read_checkpoint
from deitlt.errors import TrainingError


def write_atomically(path: Path, write: Callable[[BinaryIO], Any]) -> None:
    """Let `write` fill a temporary file beside `path`, bring it to the disk, and rename it to `path`.

    Raises:
        TrainingError: if the disk is full; what stood at `path` before still does.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Opened by name, not by tempfile, whose files nobody but their owner may read.
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if _is_full_disk(error):
            raise TrainingError(_full_disk(path)) from error
        raise


def _is_full_disk(error: BaseException | None) -> bool:
    """torch wraps the system's error, so look at what lies behind it, too."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if isinstance(error, RuntimeError) and "file write failed" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def _full_disk(path: Path) -> str:
    if not path.exists():
        return f"The disk is full: {path} could not be written; free some space and start anew."
    return (
        f"The disk is full: {path} could not be written (the one written before is whole); "
        f"free some space and type deitlt train resume={path.parent.parent}."
    )


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes Lightning's checkpoints atomically and reads them with `weights_only=True`."""

    def save_checkpoint(
        self,
        checkpoint: dict[str, Any],
        path: str | os.PathLike[str],
        storage_options: Any = None,
    ) -> None:
        """Write a checkpoint whole or not at all."""
        write_atomically(Path(path), lambda file: torch.save(checkpoint, file))

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Read a checkpoint safely, whatever is asked for."""
        return read_checkpoint(path)
