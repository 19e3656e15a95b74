"""An analysis in W&B: in the run of the stage that it is of, where that was recorded, else in one of its own."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from rich.console import Console

from deitlt.analysis import scalars
from deitlt.engine.analysis_pictures import FOLDER
from deitlt.engine.analysis_subjects import Subject
from deitlt.engine.stage_artifacts import run_name
from deitlt.engine.stage_logging import WANDB_ID


def log_analysis(analysis: Mapping[str, Any], subject: Subject, options: DictConfig) -> None:
    """Log its numbers as final/analysis/... and its pictures as pictures/analysis/...

    They are of the reported weights and of the split that was asked for, so they are no points of the curves
    analysis/..., which training drew.

    Args:
        analysis: in plain values.
        subject: whose it is; its pictures are drawn.
        options: the configuration's logger.wandb.
    """
    from deitlt.tracking import finish, log_pictures, log_summary, settle_mode, wandb_logger

    place, stage = subject.trained.path.parent, subject.stage
    known = place / WANDB_ID
    group = "analysis" if stage is None else stage.group
    run = group if stage is None else run_name(stage)
    logger = wandb_logger(
        project=options.project,
        entity=options.entity,
        group=group,
        job_type=subject.name,
        name=f"{run}-{subject.name}",
        folder=_recorded_in(subject),
        config={} if stage is None else stage.run,
        tags=list(options.tags),
        mode=settle_mode(options.mode),
        run_id=known.read_text() if known.exists() else None,
    )
    log_summary(logger, {f"final/{name}": value for name, value in scalars(analysis).items()})
    log_pictures(logger, subject.folder / FOLDER, "pictures/analysis")
    finish(logger)


def say_how_to_upload(subjects: Iterable[Subject], console: Console) -> None:
    """One line on how offline W&B runs of analyses get to the server."""
    from deitlt.tracking import upload_hint

    for folder in dict.fromkeys(map(_recorded_in, subjects)):
        if hint := upload_hint(folder):
            console.print(hint, highlight=False, soft_wrap=True, markup=False)


def _recorded_in(subject: Subject) -> Path:
    """The run's folder; without one the analysis' own."""
    return subject.folder if subject.stage is None else subject.trained.path.parent.parent
