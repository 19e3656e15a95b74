"""What a stage tells its loggers: its CSV file, and its run in W&B where that is on."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from deitlt.checkpoints import read_checkpoint
from deitlt.data import LongTailDataModule
from deitlt.engine.pictures import draw_classes, draw_views
from deitlt.engine.stage_config import StageConfig
from deitlt.modules import RAW, ClassifierModule
from deitlt.reports.analysis_figures import ANALYSIS_FOLDER
from deitlt.tracking import (
    StageNames,
    forgiving,
    log_checkpoints,
    log_findings,
    log_pictures,
    pictures_in,
    settle_mode,
    use_checkpoint,
    wandb_runs,
)
from deitlt.tracking import stage_loggers as open_loggers


def settle_loggers(stages: Sequence[StageConfig]) -> list[StageConfig]:
    """The stages with W&B's mode found out, once for all of them and before any is trained.

    Raises:
        ConfigError: W&B's mode is none.
    """
    if not stages or (options := stages[0].logger["wandb"]) is None:
        return list(stages)
    mode = settle_mode(options["mode"])
    return [replace(stage, logger={**stage.logger, "wandb": {**options, "mode": mode}}) for stage in stages]


def names_of(stage: StageConfig) -> StageNames:
    """How a stage is called in W&B."""
    return StageNames(stage.name, Path(stage.folder), stage.group)


def stage_loggers(stage: StageConfig, last: Path) -> list[Logger]:
    """The stage's loggers, ready to go on after its last checkpoint, if there is one."""
    step = read_checkpoint(last)["global_step"] if last.exists() else None
    return open_loggers(names_of(stage), stage.run, stage.logger["wandb"], step)


@rank_zero_only
def log_beginning(stage: StageConfig, loggers: Sequence[Logger]) -> None:
    """Give W&B what is known before training: sample images, and which artifact teaches; at a resume once more.

    Nothing random of training's is drawn.
    """
    for logger in wandb_runs(loggers):
        if stage.teacher is not None and stage.logger["wandb"].get("artifacts", True):
            use_checkpoint(logger, Path(stage.teacher))
        with forgiving("sample views"), torch.random.fork_rng():
            log_pictures(logger, {"pictures/views": draw_views(stage, Path(stage.folder) / "views.png")})


def log_result(
    stage: StageConfig,
    loggers: Sequence[Logger],
    module: ClassifierModule,
    datamodule: LongTailDataModule,
    reported: Path,
) -> None:
    """Give W&B what the stage found: its summary, tables and pictures by class, and its checkpoints.

    What fails of it is warned about: the stage is finished.

    Args:
        stage: the stage.
        loggers: its loggers.
        module: its module, tested.
        datamodule: its data.
        reported: the checkpoint that was tested.
    """
    for logger in wandb_runs(loggers):
        pictures = {f"pictures/{path.stem}": path for path in draw_classes(stage, module)}
        in_folder = pictures_in(Path(stage.folder) / ANALYSIS_FOLDER, "pictures/analysis")
        log_findings(logger, module, datamodule.info, pictures | in_folder)
        if stage.logger["wandb"].get("artifacts", True):
            experiment = (stage.run.get("recipe") or {}).get("experiment") or stage.data["name"]
            metadata = {
                "stage": stage.name,
                "protocol": stage.protocol,
                "seed": stage.seed,
                "data": stage.data["name"],
                "imbalance_factor": stage.data["imbalance_factor"],
                "accuracy": module.results["test"][RAW].accuracy,
            }
            log_checkpoints(logger, names_of(stage), str(experiment), reported, metadata)
