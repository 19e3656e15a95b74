"""Checkpoint files: read whole and without running what they hold, written whole or not at all, found in a run."""

import errno
import json
import os
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO
from zipfile import ZipFile

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from safetensors import SafetensorError, safe_open
from torch.serialization import safe_globals

from deitlt.errors import CheckpointError, TrainingError
from deitlt.tracking import CHECKPOINTS, fetch, is_fetched

Checkpoint = dict[str, Any]
KEY = "deitlt"  # where a checkpoint holds what it says of its network
PREFIX = "network."  # of the network's weights among a module's
INNER = "vit."  # before timm's names in our student
EXPORTED = "model.safetensors"  # in a folder that `deitlt export` wrote, or that the Hub keeps
BESIDE_SPEC = ("format", "outputs", "input", "view")  # what else the header of such a file says
_ARCHIVE = b"PK\x03\x04"  # what a zip archive begins with, as torch looks for it
_FOLDER = 16  # an attribute of an archive's part: torch leaves the memory of one that has it as it was


class StandIn:
    """Replaces an object that a file describes, and keeps nothing of what the file says of it."""

    __slots__ = ()

    def __new__(cls, *arguments: object) -> "StandIn":
        """Accept whatever the file would call the class with."""
        return super().__new__(cls)

    def __init__(self, *arguments: object) -> None:
        """Keep none of the arguments."""

    def __setstate__(self, state: object) -> None:
        """Keep nothing of the state."""


# What external files hold beside weights: the command line's arguments, with paths and NumPy's numbers in them.
_REPLACED = (
    "argparse.Namespace",
    *(f"{module}.{name}" for module in ("pathlib", "pathlib._local") for name in ("PosixPath", "WindowsPath")),
    *("numpy.dtype", "numpy._core.multiarray.scalar", "numpy.core.multiarray.scalar"),
)


def read_checkpoint(path: str | Path, external: bool = False) -> Checkpoint:
    """Read a checkpoint onto the CPU with `weights_only=True`, once it is known to be as it was written.

    A .safetensors file of `deitlt export` is given as the checkpoint that it was made of, without the average.

    Args:
        path: the file.
        external: also accept a command line's arguments, as others store them; an inert `StandIn` replaces them.

    Raises:
        CheckpointError: if the file is missing, no checkpoint, not as it was written, or holds objects that only
            running code could rebuild.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"There is no checkpoint {path}; type the path of a .ckpt file, or of a run's folder.")
    try:
        with warnings.catch_warnings():  # what torch says of a strange pickle, our sentence says
            warnings.simplefilter("ignore")
            with safe_globals([(StandIn, name) for name in _REPLACED] if external else []):
                if path.suffix == ".safetensors":
                    return _read_safetensors(path)
                _refuse_damaged(path)
                content = torch.load(path, map_location="cpu", weights_only=True)
    except PermissionError as error:
        raise CheckpointError(f"{path} may not be read by you; type chmod +r {path}, or another path.") from error
    except CheckpointError:
        raise
    except SafetensorError as error:
        raise CheckpointError(
            f"{path} is no file of safetensors, or damaged; put a copy of it in its place, or type the path of another."
        ) from error
    except Exception as error:  # torch has many ways to fail on a broken or truncated file
        raise CheckpointError(_why_unreadable(path, error)) from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, no checkpoint; type the path of a .ckpt file.")
    return content


def _read_safetensors(path: Path) -> Checkpoint:
    """The weights by their names, or where the header has a spec, as in a checkpoint of ours."""
    with safe_open(path, "pt") as file:
        said = file.metadata() or {}
        weights: Checkpoint = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 # no mapping
    if "target" not in said:
        return weights
    try:
        spec = {key: json.loads(value) for key, value in said.items() if key not in BESIDE_SPEC}
    except ValueError as error:
        raise CheckpointError(f"The header of {path} is damaged; put a copy of the file in its place.") from error
    inside = PREFIX + (INNER if spec["target"] == "deitlt.models.create_student" else "")
    return {KEY: spec, "state_dict": {f"{inside}{name}": value for name, value in weights.items()}}


def _refuse_damaged(path: Path) -> None:
    """Raise CheckpointError where a part of torch's archive has another checksum than was written: torch looks at none.

    What is no archive (of torch before 1.6), or was written with `set_crc32_options(False)`, has no checksums. It takes
    about a second a gigabyte.
    """
    with path.open("rb") as file:
        if file.read(len(_ARCHIVE)) != _ARCHIVE:
            return
        try:
            archive = ZipFile(file)
            parts = archive.infolist()
            folders = [part.filename for part in parts if part.external_attr & _FOLDER and part.file_size]
            has_sums = any(part.CRC for part in parts)
            damaged = folders[0] if folders else archive.testzip() if has_sums else None
        except Exception:  # it is cut off, or a header asks for anything: a password, another compression
            damaged = "its list of parts"
    if damaged is not None:
        anew = ", or delete the folder of its stage, and deitlt train resume=RUN trains that anew"
        raise CheckpointError(
            f"{path} is damaged: {damaged} is not as it was written; put a copy of the file in its place, or type the "
            f"path of another{anew if path.name in CHECKPOINTS else ''}."
        )


def _why_unreadable(path: Path, error: Exception) -> str:
    refused = ("Unsupported global", "GLOBAL", "REDUCE")  # what the unpickler names where it refuses to call
    if isinstance(error, pickle.UnpicklingError) and any(word in str(error) for word in refused):
        return (
            f"{path} wants to run code while it is read, and was refused; "
            "type the path of a file that holds weights only, such as a .ckpt that deitlt wrote."
        )
    return f"{path} is no checkpoint; type the path of a .ckpt file that deitlt wrote."


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
    """torch wraps the system's error, so look at its causes, too."""
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
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any = None
    ) -> None:
        """Write a checkpoint whole or not at all."""
        write_atomically(Path(path), lambda file: torch.save(checkpoint, file))

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Read a checkpoint safely, whatever is asked for."""
        return read_checkpoint(path)


def find_checkpoint(path: str | Path, stages: tuple[str, ...], key: str | None = None) -> Path:
    """The file itself, or the checkpoint of the first of `stages` that has one in a run's or stage's folder.

    A name that begins with 'wandb:' is an artifact's, one with 'hf://' a model's on the Hub; both are fetched.

    Args:
        path: the file or folder; one that `deitlt export` wrote, too.
        stages: names of a run's folders, the first choice first.
        key: what a user types to choose the stage, where there is such a key beside 'checkpoint'.

    Raises:
        CheckpointError: if the path does not exist or holds no such checkpoint, or it cannot be fetched.
    """
    if is_fetched(path):
        return fetch(str(path))
    path = Path(path)
    if path.is_file():
        return path
    if not path.exists():
        raise CheckpointError(f"There is no checkpoint {path}; type the path of a .ckpt file, or of a run's folder.")
    for folder in (*(path / stage for stage in stages), path):
        for name in CHECKPOINTS:
            if (folder / name).is_file():
                return folder / name
    if (path / EXPORTED).is_file():
        return path / EXPORTED
    raise CheckpointError(_absent(path, stages, key))


def _absent(path: Path, stages: tuple[str, ...], key: str | None) -> str:
    """What to type where a folder is no run's, or a run's without these stages."""
    held = sorted(folder.name for folder in path.iterdir() if any((folder / name).is_file() for name in CHECKPOINTS))
    if held:
        advice = f"type {' or '.join(f'{key}={stage}' for stage in held)}" if key else "type another run's folder"
        return f"{path} has no {' or '.join(stages)}, but {' and '.join(held)}; {advice}."
    wanted = " or ".join(str(path / stage / "last.ckpt") for stage in stages)
    advice = "type checkpoint=RUN with a folder that deitlt train wrote" if key else f"there should be {wanted}"
    return f"The folder {path} holds no checkpoint; {advice}."
