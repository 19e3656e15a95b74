"""Where a run's numbers go: a CSV file that survives a resume, and W&B."""

from deitlt.tracking.csv import AppendingCSVLogger
from deitlt.tracking.wandb import (
    define_metrics,
    finish,
    log_per_class,
    log_picture,
    upload_hint,
    wandb_logger,
)

__all__ = [
    "AppendingCSVLogger",
    "define_metrics",
    "finish",
    "log_per_class",
    "log_picture",
    "upload_hint",
    "wandb_logger",
]
