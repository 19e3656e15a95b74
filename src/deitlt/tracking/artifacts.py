"""Checkpoints as W&B artifacts: what a stage made, and which teacher a student learnt from."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities import rank_zero_only

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
def use_checkpoint(logger: WandbLogger, file: Path, record: ArtifactRecord) -> None:
    """Say which artifact the stage's run learnt from, in its configuration and as lineage.

    A checkpoint of our own is recorded to be linked when it is uploaded, which may be later: W&B knows it by its
    digest, and keeps it once. One that was fetched is linked by its name online, and offline stays a name in the
    configuration.

    Args:
        logger: the stage's.
        file: the checkpoint.
        record: what is known of it.
    """
    with forgiving("the teacher's artifact"):
        run = logger.experiment
        source = record.name if record.fetched else f"{record.name}:{record.alias}"
        known = {"artifact": source, "digest": record.digest, "file": str(file)}
        run.config.update({"artifacts": {"teacher": known}}, allow_val_change=True)
        run.summary.update({"artifacts/teacher": source})
        if record.fetched and not run.offline:
            run.use_artifact(record.name)
        elif not record.fetched and not run.disabled:
            # What use_artifact does with a file, but for refusing offline, and for waiting without an end online.
            run._log_artifact(_draft(file, record.name, {}), is_user_created=True, use_after_commit=True)


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
