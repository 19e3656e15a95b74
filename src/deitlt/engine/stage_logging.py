"""What a stage tells its loggers: its CSV file, and its run in W&B where that is on."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from deitlt.checkpoints import read_checkpoint
from deitlt.data import LongTailDataModule
from deitlt.engine.stage_config import StageConfig
from deitlt.modules import RAW, ClassifierModule
from deitlt.reports.analysis_figures import ANALYSIS_FOLDER
from deitlt.reports.class_figures import MOST_CONFUSED, confusion_picture, per_class_accuracy
from deitlt.reports.figures import save_figure
from deitlt.tracking import (
    StageNames,
    drawing,
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
            from deitlt.engine.pictures import draw_views

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
        pictures = {f"pictures/{name}": picture for name, picture in _pictures(stage, module).items()}
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


def _pictures(stage: StageConfig, module: ClassifierModule) -> dict[str, Path]:
    """Name -> file of the pictures by class, drawn into the stage's folder; one that fails is absent."""
    drawn = {}
    for name, draw in _drawers(stage, module).items():
        with drawing(name):
            path = Path(stage.folder) / f"{name}.png"
            draw(path)
            drawn[name] = path
    return drawn


def _drawers(stage: StageConfig, module: ClassifierModule) -> dict[str, Callable[[Path], None]]:
    """Name of a picture -> what draws it into a file."""
    drawers: dict[str, Callable[[Path], None]] = {"per_class": partial(_draw_recalls, stage, module)}
    for token in module.confusions if module.info.num_classes <= MOST_CONFUSED else ():
        name, label = (f"confusion_{token}", token.upper()) if module.names_tokens else ("confusion", "its answers")
        drawers[name] = partial(_draw_confusion, module, token, f"{stage.name}, {label}: test images")
    return drawers


def _draw_recalls(stage: StageConfig, module: ClassifierModule, path: Path) -> None:
    info, raw = module.info, module.results["test"][RAW].per_class
    tokens = {token: raw[token] for token in module.tokens}  # of the answers, the experts and their mean
    names = {token.upper(): recalls for token, recalls in tokens.items()} if module.names_tokens else raw
    save_figure(per_class_accuracy(names, info.counts, info.class_names, info.groups, stage.name), path)


def _draw_confusion(module: ClassifierModule, token: str, title: str, path: Path) -> None:
    info = module.info
    matrix = module.confusions[token].matrix(info.num_classes).numpy()
    save_figure(confusion_picture(matrix, info.counts, info.class_names, info.groups, title), path)
