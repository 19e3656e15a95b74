"""A checkpoint that lies in W&B as an artifact: fetched into a folder of its own, once for each version."""

import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deitlt.checkpoints.writing import write_atomically
from deitlt.errors import CheckpointError
from deitlt.tracking.artifacts import RECORD, ArtifactRecord
from deitlt.tracking.failures import first_line
from deitlt.tracking.wandb import why_not_online

if TYPE_CHECKING:
    from wandb import Artifact

WANDB = "wandb:"  # before the name of an artifact
CACHE = "DEITLT_CACHE"  # environment variable: the folder to keep what was fetched in
_FORM = "wandb:ENTITY/PROJECT/NAME:ALIAS"
_NAME = re.compile(r"(?:[\w.-]+/){1,2}[\w.-]+:[\w.-]+", re.ASCII)
_PATIENCE = 20  # seconds for each answer of the server
_SUFFIXES = (".ckpt", ".pt", ".pth", ".tar", ".safetensors")


def fetch_checkpoint(name: str) -> Path:
    """The file of a checkpoint that W&B keeps, read as carefully afterwards as any other.

    Beside the file, artifact.json says which version it is, so that a student can name its teacher. What was
    fetched once is taken from the cache after the server has said which version the alias means.

    Args:
        name: 'wandb:ENTITY/PROJECT/NAME:ALIAS', or without ENTITY where it is the key's own.

    Returns:
        The file: the chosen epoch's where there is one, else the last.

    Raises:
        CheckpointError: W&B cannot be reached or takes no key, has no such artifact, or it holds no checkpoint.
    """
    wanted = name.removeprefix(WANDB)
    if not _NAME.fullmatch(wanted):
        raise CheckpointError(f"{name} names no artifact; type {_FORM}, with an alias such as latest.")
    if (reason := why_not_online()) is not None:
        raise CheckpointError(f"{name} cannot be fetched: {reason}; type the path of a .ckpt file.")
    import wandb

    try:
        artifact = wandb.Api(timeout=_PATIENCE).artifact(wanted)
    except Exception as error:  # W&B's errors have no common base
        raise CheckpointError(f"There is no artifact {wanted} ({first_line(error)}); type {_FORM}.") from error
    folder = cache_folder() / re.sub(r"[^\w.-]+", "_", f"{artifact.qualified_name}-{artifact.digest}")
    record = _fetched(artifact, folder, name)
    return folder / record.file


def cache_folder() -> Path:
    """Where fetched checkpoints are kept: $DEITLT_CACHE, else deitlt in the system's cache of this user."""
    own, systems = os.environ.get(CACHE), os.environ.get("XDG_CACHE_HOME")
    if own:
        return Path(own).expanduser().absolute()
    return (Path(systems) if systems else Path.home() / ".cache") / "deitlt" / "artifacts"


def _fetched(artifact: "Artifact", folder: Path, name: str) -> ArtifactRecord:
    """What lies in the folder, fetched now where it does not yet; the record is written last."""
    if (record := _known(folder)) is not None:
        return record
    held = sorted(entry for entry in artifact.manifest.entries if Path(entry).suffix in _SUFFIXES)
    file = next((wanted for wanted in ("best.ckpt", "last.ckpt") if wanted in held), held[0] if held else None)
    if file is None or file != Path(file).name:
        raise CheckpointError(f"{name} holds no checkpoint file; type {_FORM} of an artifact with a .ckpt in it.")
    try:
        artifact.get_entry(file).download(root=str(folder))
    except Exception as error:
        raise CheckpointError(f"{name} could not be fetched ({first_line(error)}); try again.") from error
    record = ArtifactRecord(artifact.qualified_name, str(artifact.version), artifact.digest, file)
    content: dict[str, Any] = record.as_plain()
    write_atomically(folder / RECORD, lambda place: place.write(json.dumps(content).encode()))
    return record


def _known(folder: Path) -> ArtifactRecord | None:
    """What was fetched into the folder before, if it was fetched whole."""
    try:
        record = ArtifactRecord(**json.loads((folder / RECORD).read_text()))
    except (OSError, ValueError, TypeError):
        return None
    return record if (folder / Path(record.file).name).is_file() else None
