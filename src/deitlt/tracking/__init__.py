"""Where a run's numbers go: a CSV file that survives a resume, and W&B."""

from deitlt.tracking.artifacts import ArtifactRecord, artifact_name, file_digest, log_checkpoint, use_checkpoint
from deitlt.tracking.csv import AppendingCSVLogger
from deitlt.tracking.failures import drawing, forgiving
from deitlt.tracking.media import log_per_class, log_picture, log_pictures, log_table
from deitlt.tracking.modes import settle_mode
from deitlt.tracking.names import define_metrics, final_names
from deitlt.tracking.wandb import finish, log_summary, upload_hint, wandb_logger

__all__ = [
    "AppendingCSVLogger",
    "ArtifactRecord",
    "artifact_name",
    "define_metrics",
    "drawing",
    "file_digest",
    "final_names",
    "finish",
    "forgiving",
    "log_checkpoint",
    "log_per_class",
    "log_picture",
    "log_pictures",
    "log_summary",
    "log_table",
    "settle_mode",
    "upload_hint",
    "use_checkpoint",
    "wandb_logger",
]
