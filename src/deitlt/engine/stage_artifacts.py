"""A stage's checkpoints as W&B artifacts, and the artifact of the teacher that it learns from."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import WandbLogger

from deitlt.engine.run_folder import write_json
from deitlt.engine.stage_config import StageConfig
from deitlt.errors import CheckpointError
from deitlt.tracking import ArtifactRecord, artifact_name, file_digest, log_checkpoint, use_checkpoint
from deitlt.tracking.artifacts import RECORD


def log_checkpoints(logger: WandbLogger, stage: StageConfig, reported: Path, accuracy: Mapping[str, Any]) -> None:
    """Log what a finished stage made: 'last', and 'best' where the protocol chose an epoch.

    The one that the run reports has the run's name as an alias, too, and is logged last, so that it is 'latest'.
    Beside it, artifact.json says as what it was logged, for the students that will learn from it.

    Args:
        logger: the stage's.
        stage: whose checkpoints they are.
        reported: the checkpoint that was tested.
        accuracy: of it, by token; plain values.
    """
    name, last = collection(stage), reported.with_name("last.ckpt")
    metadata = {
        "stage": stage.name,
        "protocol": stage.protocol,
        "seed": stage.seed,
        "data": stage.data["name"],
        "imbalance_factor": stage.data["imbalance_factor"],
    }
    if last != reported and last.exists():
        log_checkpoint(logger, last, name, [f"{run_name(stage)}-last", "last"], metadata)
    aliases = [run_name(stage), reported.stem]
    record = log_checkpoint(logger, reported, name, aliases, metadata | {"accuracy": dict(accuracy)})
    if record is not None:
        write_json(reported.with_name(RECORD), record.as_plain())


def use_teacher(logger: WandbLogger, stage: StageConfig) -> None:
    """Say which artifact the stage's teacher is, if it has one."""
    if stage.teacher is not None:
        file = Path(stage.teacher)
        use_checkpoint(logger, file, read_record(file))


def read_record(file: Path) -> ArtifactRecord:
    """As which artifact a checkpoint is known; one that never was an artifact gets the name that it will have.

    Raises:
        CheckpointError: if what lies beside it does not say that.
    """
    beside = file.with_name(RECORD)
    if beside.exists():
        try:
            record = ArtifactRecord(**json.loads(beside.read_text()))
        except (ValueError, TypeError) as error:
            raise CheckpointError(f"{beside} does not name an artifact; delete it.") from error
        if record.file == file.name and (record.fetched or record.digest == file_digest(file)):
            return record
    digest = file_digest(file)
    return ArtifactRecord(artifact_name("given-teacher", file.stem), digest[:8], digest, file.name)


def collection(stage: StageConfig) -> str:
    """The artifact that every run of the stage's recipe adds a version to, such as 'cifar10_lt_if100-teacher'."""
    experiment = (stage.run.get("recipe") or {}).get("experiment")
    return artifact_name(str(experiment or stage.data["name"]), stage.name)


def run_name(stage: StageConfig) -> str:
    """The run's name, which its stages share; of a sweep's job with the sweep's before it."""
    folder = Path(stage.folder).parent.name
    return stage.group if stage.group.endswith(folder) else f"{stage.group}-{folder}"
