"""What trains a stage, made of its configuration: callbacks, checkpoints among them, and Lightning's trainer."""

from pathlib import Path
from typing import Any

import lightning as L
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch.callbacks import ModelCheckpoint, Timer
from lightning.pytorch.loggers import Logger
from rich.console import Console

from deitlt.callbacks import (
    DeferredReweighting,
    FiniteLoss,
    FirstStep,
    Preemption,
    SeededSteps,
    SharpnessAwareMinimization,
    StageProgress,
    StudentAveraging,
    Throughput,
    TokenFusion,
)
from deitlt.checkpoints import AtomicCheckpointIO
from deitlt.engine.building import batch_plan, make
from deitlt.engine.pruning import build_pruning
from deitlt.engine.stage_config import StageConfig
from deitlt.types import DataInfo


def build_callbacks(stage: StageConfig, info: DataInfo, console: Console) -> list[L.Callback]:
    """Seeding first, for those that remember streams; checkpoints last, after all that may stop a run."""
    recipe, folder = stage.recipe, Path(stage.folder)
    callbacks: list[L.Callback] = [SeededSteps(stage.seed), StageProgress(stage.name, console), Timer(), Throughput()]
    callbacks.append(FirstStep(stage.name, console if stage.trainer["compile"] else None))
    if (drw := recipe["drw"]) is not None:
        callbacks.append(DeferredReweighting(drw["start_epoch"], info.counts, drw["beta"], drw["stop_mixing"]))
    if (sam := recipe["sam"])["enabled"]:
        callbacks.append(SharpnessAwareMinimization(make(sam["rho"]), sam["adaptive"], sam["scope"]))
    if (ema := recipe["ema"]) is not None:
        callbacks.append(StudentAveraging(ema["decay"], ema["warmup"]))
    if (pruning := build_pruning(stage)) is not None:
        callbacks.append(pruning)
    callbacks += [TokenFusion(), FiniteLoss(folder), Preemption(folder / "last.ckpt")]
    return [*callbacks, *_checkpoints(stage, folder)]


def build_trainer(stage: StageConfig, callbacks: list[L.Callback], loggers: list[Logger], watches: bool) -> L.Trainer:
    """Lightning's trainer for this stage; `watches` says whether any split is evaluated while training."""
    options, recipe = stage.trainer, stage.recipe
    return L.Trainer(
        accelerator=options["accelerator"],
        devices=options["devices"],
        num_nodes=stage.hosts,
        strategy=options["strategy"],
        precision=options["precision"],
        deterministic=options["deterministic"],
        benchmark=not options["deterministic"],
        max_epochs=recipe["epochs"],
        accumulate_grad_batches=batch_plan(stage).accumulate,
        gradient_clip_val=recipe["gradient_clip"],
        check_val_every_n_epoch=_evaluate_every(stage),
        limit_val_batches=None if watches else 0,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        callbacks=callbacks,
        logger=loggers,
        plugins=[AtomicCheckpointIO(), LightningEnvironment()],  # whoever started us: the ranks are ours
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=stage.folder,
    )


def _evaluate_every(stage: StageConfig) -> int:
    epochs: int = stage.recipe["epochs"]
    return min(stage.evaluate_every, epochs)


def _checkpoints(stage: StageConfig, folder: Path) -> list[L.Callback]:
    options: dict[str, Any] = {
        "dirpath": folder,
        "save_on_train_epoch_end": True,
        "enable_version_counter": False,
    }
    last = ModelCheckpoint(filename="last", every_n_epochs=stage.checkpoint_every, **options)
    if stage.protocol == "last":
        return [last]
    # The best comes first: what is resumed from the last must know the best score so far.
    split = "val" if stage.protocol == "val" else "test"
    token = "" if stage.kind == "teacher" else "avg/" if stage.recipe["model"]["distilled"] else "cls/"
    monitor = f"{split}/{token}balanced"
    every = _evaluate_every(stage)
    best = ModelCheckpoint(filename="best", monitor=monitor, mode="max", every_n_epochs=every, **options)
    return [best, last]
