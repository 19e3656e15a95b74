"""One stage in this process: train, choose the epoch by the protocol, test, write the result."""

import logging
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Timer
from lightning.pytorch.loggers import Logger, WandbLogger
from rich.console import Console
from torch._dynamo.exc import BackendCompilerFailed

from deitlt.callbacks import FirstStep
from deitlt.checkpoints import read_checkpoint
from deitlt.data import LongTailDataModule
from deitlt.errors import TrainingError
from deitlt.figures import per_class_accuracy
from deitlt.modules import RAW, ClassifierModule
from deitlt.tasks.building import (
    build_callbacks,
    build_card,
    build_data,
    build_labeller,
    build_module,
    build_trainer,
    initialise_student,
)
from deitlt.tasks.run_folder import RunFolder, write_json, write_text
from deitlt.tasks.stage_config import StageConfig
from deitlt.tasks.stored_answers import with_store
from deitlt.tracking import AppendingCSVLogger

LAST, BEST, WANDB_ID = "last.ckpt", "best.ckpt", "wandb_run_id.txt"


def run_stage(stage: StageConfig, console: Console) -> None:
    """Train one stage, from its last checkpoint if there is one, and write its result.json."""
    quieten()
    torch.compiler.reset()  # graphs of an earlier stage's networks would count towards the limit of this one's
    folder = Path(stage.folder)
    last = folder / LAST
    L.seed_everything(stage.seed, verbose=False)  # fresh weights; training draws from streams of its own
    datamodule = build_data(stage)
    datamodule.labeller = labeller = with_store(stage, datamodule, build_labeller(stage, datamodule))
    module = build_module(stage, datamodule.info)
    module.card = build_card(stage, datamodule).as_plain()
    module.watched = datamodule.watched
    loggers = _loggers(stage, last)
    callbacks = build_callbacks(stage, datamodule.info, console)
    if isinstance(labeller, L.Callback):
        callbacks.append(labeller)  # it stores what it was asked in an epoch at the epoch's end
    trainer = build_trainer(stage, callbacks, loggers, watches=bool(datamodule.watched))
    if not last.exists() and (started := initialise_student(stage, module)) and trainer.is_global_zero:
        console.print(started, highlight=False, soft_wrap=True, markup=False)
    _fit(trainer, module, datamodule, last)
    if trainer.current_epoch % stage.checkpoint_every:
        trainer.save_checkpoint(last)  # the last epoch had none
    trainer.test(module, datamodule=datamodule, ckpt_path=_chosen(stage, folder), verbose=False)
    if trainer.is_global_zero:
        result = _result(stage, module, trainer)
        _log_result(stage, loggers, module, datamodule)
        write_json(folder / "result.json", result)
    _finish(loggers)


def _fit(trainer: L.Trainer, module: ClassifierModule, datamodule: LongTailDataModule, last: Path) -> None:
    """Train from the last checkpoint, if there is one; Ctrl-C stays Ctrl-C.

    Raises:
        TrainingError: a network cannot be compiled.
    """
    try:
        trainer.fit(module, datamodule=datamodule, ckpt_path=last if last.exists() else None)
    except BackendCompilerFailed as error:
        lines = str(error.inner_exception).strip().splitlines() or [type(error.inner_exception).__name__]
        reason = lines[0].rstrip(".:")
        raise TrainingError(f"The networks cannot be compiled ({reason}); type trainer.compile=false.") from error
    except SystemExit as leaving:  # Lightning answers Ctrl-C with exit(1)
        if trainer.interrupted:
            raise KeyboardInterrupt from leaving
        raise


def _seconds(trainer: L.Trainer) -> dict[str, float | None]:
    """Seconds of training, those before a resume included, for the timer is kept in the checkpoint; of its first step.

    The first step is that of this process, None where there was none.
    """
    found = {type(callback): callback for callback in trainer.callbacks}  # type: ignore[attr-defined]
    timer, first = found[Timer], found[FirstStep]
    first_step = None if first.seconds is None else round(first.seconds, 2)
    return {"seconds": round(timer.time_elapsed("train"), 1), "first_step_seconds": first_step}


def _chosen(stage: StageConfig, folder: Path) -> Path | None:
    """The checkpoint of the epoch that the protocol reports; None for the weights at hand."""
    return None if stage.protocol == "last" else folder / BEST


def _result(stage: StageConfig, module: ClassifierModule, trainer: L.Trainer) -> dict[str, Any]:
    found = module.results["test"]
    return {
        "networks": {name: asdict(results) for name, results in found.items()},
        "checkpoint": str(Path(stage.folder) / (LAST if stage.protocol == "last" else BEST)),
        **_seconds(trainer),
    }


def _loggers(stage: StageConfig, last: Path) -> list[Logger]:
    csv = AppendingCSVLogger(stage.folder)
    if last.exists():
        csv.keep_until(read_checkpoint(last)["global_step"])
    loggers: list[Logger] = [csv]
    if (options := stage.logger["wandb"]) is not None:
        from deitlt.tracking.wandb import wandb_logger  # W&B is imported only where it is used

        run = RunFolder(Path(stage.folder).parent)
        known = Path(stage.folder) / WANDB_ID
        logger = wandb_logger(
            project=options["project"],
            entity=options["entity"],
            group=stage.group,
            job_type=stage.name,
            name=f"{stage.group}-{stage.name}",
            folder=run.path,
            config=stage.run,
            tags=options["tags"],
            mode=options["mode"],
            run_id=known.read_text() if known.exists() else None,
        )
        loggers.append(logger)
        if isinstance(logger.version, str):
            write_text(known, logger.version)  # a resumed stage goes on with its run
    return loggers


def _log_result(
    stage: StageConfig, loggers: list[Logger], module: ClassifierModule, datamodule: LongTailDataModule
) -> None:
    """Give W&B the accuracy of each class, as a table and as a picture."""
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            from deitlt.tracking.wandb import log_per_class, log_picture

            info, raw = datamodule.info, module.results["test"][RAW].per_class
            picture = Path(stage.folder) / "per_class.png"
            tokens = {token: raw[token] for token in module.tokens}  # of the answers, the experts and their mean
            names = {token.upper(): recalls for token, recalls in tokens.items()} if module.names_tokens else raw
            per_class_accuracy(names, info.counts, info.class_names, info.groups, picture, stage.name)
            log_per_class(logger, per_class_rows(module, datamodule))
            log_picture(logger, "pictures/per_class", picture)


def per_class_rows(module: ClassifierModule, datamodule: LongTailDataModule) -> list[dict[str, Any]]:
    """One row a class: its name, training images, group, and each token's recall in percent."""
    info = datamodule.info
    group_of = {c: name for name, classes in info.groups.items() for c in classes}
    tokens = {
        token if name == "raw" else f"{name} {token}": recalls
        for name, results in module.results["test"].items()
        for token, recalls in results.per_class.items()
    }
    return [
        {
            "class": info.class_names[c],
            "train images": info.counts[c],
            "group": group_of.get(c, ""),
            **{token: recalls[c] for token, recalls in tokens.items()},
        }
        for c in range(info.num_classes)
    ]


def _finish(loggers: list[Logger]) -> None:
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            from deitlt.tracking.wandb import finish

            finish(logger)


def quieten() -> None:
    """Keep Lightning's chatter off the terminal; what a user has to know is printed by us."""
    for name in ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"lightning\..*")
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
