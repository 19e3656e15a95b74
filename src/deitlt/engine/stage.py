"""One stage in this process, on every rank: train, choose the epoch by the protocol, test, write the result."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Timer
from rich.console import Console
from torch._dynamo.exc import BackendCompilerFailed

from deitlt.callbacks import MedianPruning, Throughput
from deitlt.data import LongTailDataModule
from deitlt.engine.analysis import build_analysis
from deitlt.engine.build import (
    BEST,
    LAST,
    batch_plan,
    build_callbacks,
    build_data,
    build_module,
    build_spec,
    build_teacher,
    build_trainer,
    initialise_student,
)
from deitlt.engine.pictures import draw_stage_analysis
from deitlt.engine.run_folder import write_json
from deitlt.engine.stage_config import StageConfig
from deitlt.engine.stage_logging import log_beginning, log_result, stage_loggers
from deitlt.errors import Preempted, TrainingError
from deitlt.modules import ClassifierModule
from deitlt.tracking import finished


def run_stage(stage: StageConfig, console: Console) -> None:
    """Train one stage, from its last checkpoint if there is one, and write its result.json.

    Args:
        stage: it.
        console: where the first rank says how it goes.

    Raises:
        UserError: what cannot be done.
        Preempted, KeyboardInterrupt: it was stopped.
    """
    torch.compiler.reset()  # graphs of an earlier stage's networks would count towards the limit of this one's
    folder = Path(stage.folder)
    last = folder / LAST
    L.seed_everything(stage.seed, verbose=False)  # fresh weights; training draws from generators of its own
    datamodule = build_data(stage)
    teacher = build_teacher(stage, datamodule)
    module = build_module(stage, datamodule.info, teacher)
    module.spec = build_spec(stage, datamodule).as_plain()
    module.watched = datamodule.watched
    loggers = stage_loggers(stage, last)
    with finished(loggers):
        callbacks = [*build_callbacks(stage, datamodule.info, console), *build_analysis(stage, teacher)]
        trainer = build_trainer(stage, callbacks, loggers, watches=bool(datamodule.watched))
        if not last.exists() and (started := initialise_student(stage, module)):
            console.print(started, highlight=False, soft_wrap=True, markup=False)
        log_beginning(stage, loggers)
        _fit(stage, trainer, module, datamodule)
        if trainer.current_epoch % stage.checkpoint_every:
            trainer.save_checkpoint(last)  # the last epoch had none
        if any(isinstance(callback, MedianPruning) and callback.is_pruned for callback in callbacks):
            return
        _conclude(stage, trainer, module, datamodule)


def _fit(stage: StageConfig, trainer: L.Trainer, module: ClassifierModule, datamodule: LongTailDataModule) -> None:
    """Train from the last checkpoint, if there is one; Ctrl-C stays Ctrl-C.

    Raises:
        TrainingError: a network cannot be compiled, or a batch does not fit.
    """
    last = Path(stage.folder) / LAST
    try:
        trainer.fit(module, datamodule=datamodule, ckpt_path=last if last.exists() else None)
    except BackendCompilerFailed as error:
        lines = str(error.inner_exception).strip().splitlines() or [type(error.inner_exception).__name__]
        reason = lines[0].rstrip(".:")
        raise TrainingError(f"The networks cannot be compiled ({reason}); type trainer.compile=false.") from error
    except torch.OutOfMemoryError as error:
        images = batch_plan(stage).batch_size
        raise TrainingError(
            f"The {stage.name}'s batch of {images} images does not fit into the GPU's memory; type "
            f"{stage.kind}.batch_size={max(1, images // 2)}: images per update stay, by accumulation."
        ) from error
    except Preempted:
        raise
    except SystemExit as leaving:  # Lightning answers Ctrl-C with exit(1)
        if trainer.interrupted:
            raise KeyboardInterrupt from leaving
        raise


def _conclude(stage: StageConfig, trainer: L.Trainer, module: ClassifierModule, datamodule: LongTailDataModule) -> None:
    """Test the weights that the protocol reports, and write what was found."""
    folder, loggers = Path(stage.folder), trainer.loggers
    chosen = None if stage.protocol == "last" else folder / BEST  # None: the weights at hand
    module.results.pop("val", None)
    if "val" in datamodule.watched:  # the same weights on the validation split, too; its curve gets no point
        trainer.loggers = []
        trainer.validate(module, datamodule=datamodule, ckpt_path=chosen, verbose=False)
        trainer.loggers = loggers
    trainer.test(module, datamodule=datamodule, ckpt_path=chosen, verbose=False)
    if trainer.is_global_zero:
        reported = chosen or folder / LAST
        write_json(folder / "result.json", _result(module, trainer, reported))
        draw_stage_analysis(stage, module, datamodule, reported)
        log_result(stage, loggers, module, datamodule, reported)


def _result(module: ClassifierModule, trainer: L.Trainer, reported: Path) -> dict[str, Any]:
    """What was found, and seconds: of training, those before a resume included; of this process's first step."""
    found = {type(callback): callback for callback in trainer.callbacks}  # type: ignore[attr-defined]
    timer, first = found[Timer], found[Throughput].first_step_seconds
    held_out = module.results.get("val", {})
    return {
        "networks": {name: asdict(results) for name, results in module.results["test"].items()},
        "val": {name: results.accuracy for name, results in held_out.items()},
        "checkpoint": str(reported),
        "seconds": round(timer.time_elapsed("train"), 1),
        "first_step_seconds": None if first is None else round(first, 2),
    }
