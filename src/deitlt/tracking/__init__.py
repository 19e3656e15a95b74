"""Where a run's numbers go: a CSV file that survives a resume, and W&B."""

from deitlt.tracking.artifacts import CHECKPOINTS, WANDB, fetch_checkpoint, use_checkpoint
from deitlt.tracking.csv import AppendingCSVLogger
from deitlt.tracking.failures import drawing, first_line, forgiving, warn_once
from deitlt.tracking.stage import finished, log_checkpoints, log_findings, stage_loggers, wandb_runs
from deitlt.tracking.wandb import (
    StageNames,
    finish,
    log_pictures,
    log_summary,
    pictures_in,
    settle_mode,
    upload_hint,
    wandb_logger,
    why_not_online,
)

__all__ = [
    "CHECKPOINTS",
    "WANDB",
    "AppendingCSVLogger",
    "StageNames",
    "drawing",
    "fetch_checkpoint",
    "finish",
    "finished",
    "first_line",
    "forgiving",
    "log_checkpoints",
    "log_findings",
    "log_pictures",
    "log_summary",
    "pictures_in",
    "settle_mode",
    "stage_loggers",
    "upload_hint",
    "use_checkpoint",
    "wandb_logger",
    "wandb_runs",
    "warn_once",
    "why_not_online",
]
