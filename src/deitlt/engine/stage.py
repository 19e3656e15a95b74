"""One stage in this process: train, choose the epoch by the protocol, test, write the result."""

import logging
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Timer
from lightning.pytorch.loggers import Logger
from rich.console import Console
from torch._dynamo.exc import BackendCompilerFailed

from deitlt.callbacks import FirstStep
from deitlt.data import LongTailDataModule
from deitlt.engine.analysis_callback import build_analysis
from deitlt.engine.building import build_data, build_module, build_spec, build_teacher, initialise_student
from deitlt.engine.pictures import draw_stage_analysis
from deitlt.engine.pruning import find_pruning
from deitlt.engine.run_folder import PRUNED, write_json
from deitlt.engine.stage_config import StageConfig
from deitlt.engine.stage_logging import log_beginning, log_result, stage_loggers
from deitlt.engine.trainer import build_callbacks, build_trainer
from deitlt.errors import Preempted, TrainingError
from deitlt.modules import ClassifierModule
from deitlt.tracking import finished

LAST, BEST = "last.ckpt", "best.ckpt"


def run_stage(stage: StageConfig, console: Console) -> None:
    """Train one stage, from its last checkpoint if there is one, and write its result.json."""
    quieten()
    torch.compiler.reset()  # graphs of an earlier stage's networks would count towards the limit of this one's
    folder = Path(stage.folder)
    last = folder / LAST
    L.seed_everything(stage.seed, verbose=False)  # fresh weights; training draws from streams of its own
    datamodule = build_data(stage)
    teacher = build_teacher(stage, datamodule)
    module = build_module(stage, datamodule.info, teacher)
    module.spec = build_spec(stage, datamodule).as_plain()
    module.watched = datamodule.watched
    loggers = stage_loggers(stage, last)
    with finished(loggers):
        callbacks = [*build_callbacks(stage, datamodule.info, console), *build_analysis(stage, teacher)]
        trainer = build_trainer(stage, callbacks, loggers, watches=bool(datamodule.watched))
        if not last.exists() and (started := initialise_student(stage, module)) and trainer.is_global_zero:
            console.print(started, highlight=False, soft_wrap=True, markup=False)
        log_beginning(stage, loggers)
        _fit(trainer, module, datamodule, last)
        if trainer.current_epoch % stage.checkpoint_every:
            trainer.save_checkpoint(last)  # the last epoch had none
        if (pruning := find_pruning(callbacks)) is not None and pruning.pruned_at is not None:
            if trainer.is_global_zero:
                write_json(folder / PRUNED, {"epoch": pruning.pruned_at, pruning.metric: pruning.value})
            return
        _conclude(stage, trainer, module, datamodule)


def _conclude(stage: StageConfig, trainer: L.Trainer, module: ClassifierModule, datamodule: LongTailDataModule) -> None:
    """Test the weights that the protocol reports, and write what was found."""
    folder, loggers = Path(stage.folder), trainer.loggers
    _validate(stage, trainer, module, datamodule, loggers)
    trainer.test(module, datamodule=datamodule, ckpt_path=_chosen(stage, folder), verbose=False)
    if trainer.is_global_zero:
        result = _result(stage, module, trainer)
        write_json(folder / "result.json", result)
        draw_stage_analysis(stage, module, datamodule, Path(result["checkpoint"]))
        log_result(stage, loggers, module, datamodule, Path(result["checkpoint"]))


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
    except Preempted:
        raise
    except SystemExit as leaving:  # Lightning answers Ctrl-C with exit(1)
        if trainer.interrupted:
            raise KeyboardInterrupt from leaving
        raise


def _validate(
    stage: StageConfig,
    trainer: L.Trainer,
    module: ClassifierModule,
    datamodule: LongTailDataModule,
    loggers: list[Logger],
) -> None:
    """Measure the weights that are tested on the validation split, too, if there is one; its curve gets no point."""
    module.results.pop("val", None)
    if "val" in datamodule.watched:
        trainer.loggers = []
        trainer.validate(module, datamodule=datamodule, ckpt_path=_chosen(stage, Path(stage.folder)), verbose=False)
        trainer.loggers = loggers


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
    found, held_out = module.results["test"], module.results.get("val", {})
    return {
        "networks": {name: asdict(results) for name, results in found.items()},
        "val": {name: results.accuracy for name, results in held_out.items()},
        "checkpoint": str(Path(stage.folder) / (LAST if stage.protocol == "last" else BEST)),
        **_seconds(trainer),
    }


def quieten() -> None:
    """Keep Lightning's chatter off the terminal; what a user has to know is printed by us."""
    for name in ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"lightning\..*")
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
