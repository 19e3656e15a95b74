"""Where a stage's numbers and pictures go: its CSV file, and its run in W&B where that is on.

W&B's parts are imported only where it is used.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.loggers import Logger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from deitlt.checkpoints import read_checkpoint
from deitlt.data import LongTailDataModule
from deitlt.engine.analysis_pictures import FOLDER
from deitlt.engine.run_folder import RunFolder, write_text
from deitlt.engine.stage_artifacts import log_checkpoints, run_name, use_teacher
from deitlt.engine.stage_config import StageConfig
from deitlt.errors import Preempted
from deitlt.figures import confusion_picture, per_class_accuracy
from deitlt.figures.confusion import MOST_CLASSES
from deitlt.modules import RAW, ClassifierModule
from deitlt.reports.sweep import JOB_FILE
from deitlt.tracking import (
    AppendingCSVLogger,
    drawing,
    final_names,
    finish,
    forgiving,
    log_per_class,
    log_picture,
    log_pictures,
    log_summary,
    log_table,
    settle_mode,
    wandb_logger,
)

WANDB_ID = "wandb_run_id.txt"
MOST_PAIRS = 500  # of confused classes, of each token, in the table


def settle_loggers(stages: Sequence[StageConfig]) -> list[StageConfig]:
    """The stages with W&B's mode found out, once for all of them and before any is trained.

    Raises:
        ConfigError: W&B's mode is none.
    """
    if not stages or (options := stages[0].logger["wandb"]) is None:
        return list(stages)
    mode = settle_mode(options["mode"])
    return [replace(stage, logger={**stage.logger, "wandb": {**options, "mode": mode}}) for stage in stages]


def group_of(run: RunFolder) -> str:
    """What a run's stages have in common in W&B: the run's name, or where it is a sweep's job the sweep's."""
    folder = run.path.parent if (run.path / JOB_FILE).exists() else run.path
    return "-".join(folder.parts[-2:])


def stage_loggers(stage: StageConfig, last: Path) -> list[Logger]:
    """The stage's loggers, ready to go on after its last checkpoint, if there is one."""
    csv = AppendingCSVLogger(stage.folder)
    if last.exists():
        csv.keep_until(read_checkpoint(last)["global_step"])
    if (options := stage.logger["wandb"]) is None:
        return [csv]
    known = Path(stage.folder) / WANDB_ID
    logger = wandb_logger(
        project=options["project"],
        entity=options["entity"],
        group=stage.group,
        job_type=stage.name,
        name=f"{run_name(stage)}-{stage.name}",
        folder=Path(stage.folder).parent,
        config=stage.run,
        tags=options["tags"],
        mode=options["mode"],
        run_id=known.read_text() if known.exists() else None,
    )
    if isinstance(logger.version, str) and getattr(rank_zero_only, "rank", 0) == 0:
        write_text(known, logger.version)  # a resumed stage goes on with its run
    return [csv, logger]


@contextmanager
def finished(loggers: Sequence[Logger]) -> Iterator[None]:
    """Close W&B's run at the end of what is inside, however it ends: as failed where it raises."""
    code = 1
    try:
        yield
        code = 0
    except Preempted:
        code = Preempted.CODE
        raise
    finally:
        for logger in _wandb(loggers):
            finish(logger, code)


@rank_zero_only
def log_beginning(stage: StageConfig, loggers: Sequence[Logger]) -> None:
    """Give W&B what is known before training: sample views, and which artifact teaches; at a resume once more.

    Nothing random of training's is drawn.
    """
    for logger in _wandb(loggers):
        if stage.logger["wandb"].get("artifacts", True):
            use_teacher(logger, stage)
        with forgiving("sample views"), torch.random.fork_rng():
            from deitlt.engine.stage_views import draw_views

            log_picture(logger, "pictures/views", draw_views(stage, Path(stage.folder) / "views.png"))


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
    for logger in _wandb(loggers):
        found = {network: results.accuracy for network, results in module.results["test"].items()}
        log_summary(logger, final_names(found, RAW, module.names_tokens))
        with forgiving("the tables"):
            log_per_class(logger, per_class_rows(module, datamodule))
            log_table(logger, "confusions", confusion_rows(module))
        for name, picture in _pictures(stage, module).items():
            log_picture(logger, f"pictures/{name}", picture)
        log_pictures(logger, Path(stage.folder) / FOLDER, f"pictures/{FOLDER}")
        if stage.logger["wandb"].get("artifacts", True):
            with forgiving("the checkpoints"):
                log_checkpoints(logger, stage, reported, found[RAW])


def per_class_rows(module: ClassifierModule, datamodule: LongTailDataModule) -> list[dict[str, Any]]:
    """One row a class: its name, training images, group, and each token's recall in percent."""
    info = datamodule.info
    group_of_class = {c: name for name, classes in info.groups.items() for c in classes}
    tokens = {
        token if name == RAW else f"{name} {token}": recalls
        for name, results in module.results["test"].items()
        for token, recalls in results.per_class.items()
    }
    return [
        {
            "class": info.class_names[c],
            "train images": info.counts[c],
            "group": group_of_class.get(c, ""),
            **{token: recalls[c] for token, recalls in tokens.items()},
        }
        for c in range(info.num_classes)
    ]


def confusion_rows(module: ClassifierModule) -> list[dict[str, Any]]:
    """For each token the classes that are taken for another most often, with the number of images."""
    names, rows = module.info.class_names, []
    for token, pairs in module.confusions.items():
        triples = zip(pairs.truth.tolist(), pairs.answer.tolist(), pairs.images.tolist(), strict=True)
        wrong = sorted((triple for triple in triples if triple[0] != triple[1]), key=lambda triple: -triple[2])
        rows += [
            {"token": token, "class": names[truth], "taken for": names[answer], "images": images}
            for truth, answer, images in wrong[:MOST_PAIRS]
        ]
    return rows


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
    for token in module.confusions if module.info.num_classes <= MOST_CLASSES else ():
        name, label = (f"confusion_{token}", token.upper()) if module.names_tokens else ("confusion", "its answers")
        drawers[name] = partial(_draw_confusion, module, token, f"{stage.name}, {label}: test images")
    return drawers


def _draw_recalls(stage: StageConfig, module: ClassifierModule, path: Path) -> None:
    info, raw = module.info, module.results["test"][RAW].per_class
    tokens = {token: raw[token] for token in module.tokens}  # of the answers, the experts and their mean
    names = {token.upper(): recalls for token, recalls in tokens.items()} if module.names_tokens else raw
    per_class_accuracy(names, info.counts, info.class_names, info.groups, path, stage.name)


def _draw_confusion(module: ClassifierModule, token: str, title: str, path: Path) -> None:
    info = module.info
    matrix = module.confusions[token].matrix(info.num_classes).numpy()
    confusion_picture(matrix, info.counts, info.class_names, info.groups, path, title)


def _wandb(loggers: Sequence[Logger]) -> list[WandbLogger]:
    return [logger for logger in loggers if isinstance(logger, WandbLogger)]
