"""Where a run's numbers go: a CSV file that survives a resume, W&B, TensorBoard, MLflow; the Hub, where models go."""

from deitlt.tracking.artifacts import CHECKPOINTS, use_checkpoint
from deitlt.tracking.csv import AppendingCSVLogger
from deitlt.tracking.failures import drawing, first_line, forgiving, warn_once
from deitlt.tracking.hub import HUB, fetch, is_fetched, is_name, push_folder
from deitlt.tracking.interface import Begin, StageLogger, StageNames
from deitlt.tracking.mlflow import SERVER, tracking_uri
from deitlt.tracking.stage import (
    TAKES_TWICE,
    finished,
    hints,
    holds_more,
    log_checkpoints,
    log_findings,
    log_pictures,
    log_summary,
    open_loggers,
    pictures_in,
    stage_loggers,
    wandb_runs,
)
from deitlt.tracking.wandb import settle_mode, wandb_logger, why_not_online

__all__ = [
    "CHECKPOINTS",
    "HUB",
    "SERVER",
    "TAKES_TWICE",
    "AppendingCSVLogger",
    "Begin",
    "StageLogger",
    "StageNames",
    "drawing",
    "fetch",
    "finished",
    "first_line",
    "forgiving",
    "hints",
    "holds_more",
    "is_fetched",
    "is_name",
    "log_checkpoints",
    "log_findings",
    "log_pictures",
    "log_summary",
    "open_loggers",
    "pictures_in",
    "push_folder",
    "settle_mode",
    "stage_loggers",
    "tracking_uri",
    "use_checkpoint",
    "wandb_logger",
    "wandb_runs",
    "warn_once",
    "why_not_online",
]
