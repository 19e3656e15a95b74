"""Checkpoints as W&B artifacts: what a stage made, which teacher a student learnt from, and files fetched from W&B."""

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from deitlt.errors import CheckpointError
from deitlt.tracking.failures import first_line, forgiving
from deitlt.tracking.wandb import why_not_online

if TYPE_CHECKING:
    from wandb import Artifact

RECORD = "artifact.json"  # beside a checkpoint: as which artifact it was logged, or from which it was fetched
WANDB = "wandb:"  # before the name of an artifact
CACHE = "DEITLT_CACHE"  # environment variable: the folder for what was fetched
CHECKPOINTS = ("best.ckpt", "last.ckpt")  # the chosen epoch first, where a protocol chose one
_FORM = "wandb:ENTITY/PROJECT/NAME:ALIAS"
_NAME = re.compile(r"(?:[\w.-]+/){1,2}[\w.-]+:[\w.-]+", re.ASCII)
_SUFFIXES = (".ckpt", ".pt", ".pth", ".tar", ".safetensors")
_LONGEST = 128  # letters of an artifact's name
_TIMEOUT = 20  # seconds for each answer of W&B's server


@dataclass(frozen=True)
class ArtifactRecord:
    """What is known of a checkpoint as an artifact.

    name: of the artifact; of one that was fetched with its ENTITY/PROJECT/ before and its :VERSION behind.
    alias: one that only this version has: the run's name. digest: W&B's, of its content. file: the
    checkpoint's name.
    """

    name: str
    alias: str
    digest: str
    file: str

    @property
    def fetched(self) -> bool:
        """Whether it came from W&B, so that the server knows it by this name."""
        return "/" in self.name

    def write(self, folder: Path) -> None:
        """Put it beside the checkpoint."""
        (folder / RECORD).write_text(json.dumps(asdict(self), indent=2))


def artifact_name(*words: str) -> str:
    """The words as one name that W&B takes for an artifact or an alias: letters, digits, and _ . -"""
    return re.sub(r"[^\w.]+", "-", "-".join(words), flags=re.ASCII).strip("-")[:_LONGEST] or "model"


def read_record(file: Path) -> ArtifactRecord | None:
    """As which artifact a checkpoint is known; None for one that never was an artifact.

    Raises:
        CheckpointError: if what lies beside it does not say that.
    """
    beside = file.with_name(RECORD)
    if not beside.exists():
        return None
    try:
        record = ArtifactRecord(**json.loads(beside.read_text()))
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"{beside} does not name an artifact; delete it.") from error
    known = record.file == file.name and (record.fetched or record.digest == file_digest(file))
    return record if known else None


@rank_zero_only
def log_checkpoint(
    logger: WandbLogger, file: Path, name: str, aliases: Sequence[str], metadata: Mapping[str, Any]
) -> ArtifactRecord | None:
    """Log a checkpoint as a version of an artifact.

    The file is not copied: until it is uploaded it must stay as it is, where it is.

    Args:
        logger: the stage's.
        file: the checkpoint.
        name: the artifact's, such as 'cifar10_lt_if100-teacher'; every run of a recipe adds a version to it.
        aliases: of this version, the run's name first, which no other version should have.
        metadata: plain values, such as accuracies.

    Returns:
        As what it was logged; None where that failed, or W&B is off.
    """
    record = None
    with forgiving("a checkpoint"):
        artifact = _draft(file, name, metadata)
        names = [artifact_name(alias) for alias in aliases]
        logger.experiment.log_artifact(artifact, aliases=names)
        record = ArtifactRecord(name, names[0], artifact.digest, file.name)
    return record


@rank_zero_only
def use_checkpoint(logger: WandbLogger, file: Path) -> None:
    """Say which teacher's checkpoint a run learnt from: in its configuration, and online as an input of the run.

    W&B can link an artifact by its name, which the server must know: offline, and of a teacher that was never an
    artifact, the name and the digest stand in the configuration alone.
    """
    with forgiving("the teacher's artifact"):
        run, record = logger.experiment, read_record(file)
        if record is None:
            source, digest = str(file), file_digest(file)
        else:
            source, digest = record.name if record.fetched else f"{record.name}:{record.alias}", record.digest
        known = {"artifact": source, "digest": digest, "file": str(file)}
        run.config.update({"artifacts": {"teacher": known}}, allow_val_change=True)
        run.summary.update({"artifacts/teacher": source})
        if record is not None and not run.offline and not run.disabled:
            run.use_artifact(source)


def file_digest(file: Path) -> str:
    """W&B's digest of an artifact that holds this file alone."""
    digest: str = _draft(file, "digest", {}).digest
    return digest


def _draft(file: Path, name: str, metadata: Mapping[str, Any]) -> "Artifact":
    import wandb

    artifact = wandb.Artifact(artifact_name(name), "model", metadata=dict(metadata))
    # 'immutable' takes the file where it lies; a copy of each checkpoint would fill the disk of a long sweep.
    artifact.add_file(str(file), name=file.name, policy="immutable", skip_cache=True)
    return artifact


def fetch_checkpoint(name: str) -> Path:
    """The file of a checkpoint that W&B keeps; W&B fetches it once for each version of the artifact.

    artifact.json beside it says which version it is.

    Args:
        name: 'wandb:ENTITY/PROJECT/NAME:ALIAS', or without ENTITY where it is the key's own.

    Returns:
        The file: best.ckpt where the artifact has one, else last.ckpt, else the first of its checkpoints.

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
        artifact = wandb.Api(timeout=_TIMEOUT).artifact(wanted)
    except Exception as error:  # W&B's errors have no common base
        raise CheckpointError(f"There is no artifact {wanted} ({first_line(error)}); type {_FORM}.") from error
    held = sorted(entry for entry in artifact.manifest.entries if Path(entry).suffix in _SUFFIXES)
    file = next((chosen for chosen in (*CHECKPOINTS, *held) if chosen in held), "")
    if not file or file != Path(file).name:
        raise CheckpointError(f"{name} holds no checkpoint file; type {_FORM} of an artifact with a .ckpt in it.")
    cache = os.environ.get(CACHE) or f"{os.environ.get('XDG_CACHE_HOME') or '~/.cache'}/deitlt/artifacts"
    version = re.sub(r"[^\w.-]+", "_", f"{artifact.qualified_name}-{artifact.digest}")
    folder = Path(cache).expanduser().absolute() / version
    try:
        artifact.get_entry(file).download(root=str(folder))
    except Exception as error:
        raise CheckpointError(f"{name} could not be fetched ({first_line(error)}); try again.") from error
    ArtifactRecord(artifact.qualified_name, str(artifact.version), artifact.digest, file).write(folder)
    return folder / file
