"""Where a run's numbers go: a CSV file that survives a resume, and W&B."""

from deitlt.tracking.artifacts import ArtifactRecord, artifact_name, file_digest, log_checkpoint, use_checkpoint
from deitlt.tracking.csv import AppendingCSVLogger
from deitlt.tracking.failures import drawing, first_line, forgiving, warn_once
from deitlt.tracking.stage import (
    StageNames,
    confusion_rows,
    final_names,
    finished,
    log_checkpoints,
    log_findings,
    per_class_rows,
    stage_loggers,
    stage_run,
    wandb_runs,
)
from deitlt.tracking.wandb import (
    define_metrics,
    finish,
    log_pictures,
    log_summary,
    log_table,
    pictures_in,
    settle_mode,
    upload_hint,
    wandb_logger,
    why_not_online,
)

__all__ = [
    "AppendingCSVLogger",
    "ArtifactRecord",
    "StageNames",
    "artifact_name",
    "confusion_rows",
    "define_metrics",
    "drawing",
    "file_digest",
    "final_names",
    "finish",
    "finished",
    "first_line",
    "forgiving",
    "log_checkpoint",
    "log_checkpoints",
    "log_findings",
    "log_pictures",
    "log_summary",
    "log_table",
    "per_class_rows",
    "pictures_in",
    "settle_mode",
    "stage_loggers",
    "stage_run",
    "upload_hint",
    "use_checkpoint",
    "wandb_logger",
    "wandb_runs",
    "warn_once",
    "why_not_online",
]
