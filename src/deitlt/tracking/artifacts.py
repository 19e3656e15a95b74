"""Checkpoints as W&B artifacts: what a stage made, and which teacher a student learnt from."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from deitlt.errors import CheckpointError
from deitlt.tracking.failures import forgiving

if TYPE_CHECKING:
    from wandb import Artifact

RECORD = "artifact.json"  # beside a checkpoint: as which artifact it was logged, or from which it was fetched
_TYPE = "model"
_LONGEST = 128  # letters of an artifact's name


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

    def as_plain(self) -> dict[str, str]:
        """What a JSON file holds."""
        return asdict(self)


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
    logger: WandbLogger,
    file: Path,
    name: str,
    aliases: Sequence[str],
    metadata: Mapping[str, Any],
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
        logger.experiment.log_artifact(artifact, aliases=[artifact_name(alias) for alias in aliases])
        record = ArtifactRecord(name, artifact_name(aliases[0]), artifact.digest, file.name)
    return record


@rank_zero_only
def use_checkpoint(logger: WandbLogger, file: Path) -> None:
    """Say which checkpoint the stage's run learnt from: in its configuration, and online as an input of the run.

    W&B can link an artifact by its name, which the server must know: offline, and of a teacher that was never an
    artifact, the name and the digest stand in the configuration alone.

    Args:
        logger: the stage's.
        file: the teacher's checkpoint.
    """
    with forgiving("the teacher's artifact"):
        run, record = logger.experiment, read_record(file)
        digest = file_digest(file) if record is None else record.digest
        source = str(file)
        if record is not None:
            source = record.name if record.fetched else f"{record.name}:{record.alias}"
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

    artifact = wandb.Artifact(artifact_name(name), _TYPE, metadata=dict(metadata))
    # 'immutable' takes the file where it lies; a copy of each checkpoint would fill the disk of a long sweep.
    artifact.add_file(str(file), name=file.name, policy="immutable", skip_cache=True)
    return artifact
