"""One rank of a process tree that trains some updates of a stage and writes how long they took.

Started as `python -m deitlt.benchmarks.rank stage.yaml`, as `deitlt.engine.launching` starts a stage.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from rich.console import Console

from deitlt.benchmarks.stand_in import generate
from deitlt.data.samplers import BLOCK
from deitlt.engine.building import batch_plan, build_data, build_labeller, build_module
from deitlt.engine.run_folder import write_text
from deitlt.engine.stage import quieten
from deitlt.engine.stage_config import StageConfig
from deitlt.engine.trainer import build_callbacks, build_trainer

RESULT = "seconds.json"


class OneCore(L.Callback):
    """Keeps each rank to one thread and, where the system can do that, to a core of its own."""

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """By now the other ranks are started; they would start on this one's core."""
        torch.set_num_threads(1)
        if hasattr(os, "sched_setaffinity"):
            cores = sorted(os.sched_getaffinity(0))
            os.sched_setaffinity(0, {cores[trainer.local_rank % len(cores)]})


class UpdateTimer(L.Callback):
    """Times some updates after a warm-up, then ends the training. It has to be the last of the callbacks.

    seconds: of the wall's clock; cpu_seconds: of this rank's processor, without what it waited for the others.

    Args:
        warmup: updates before.
        updates: that are timed.
    """

    def __init__(self, warmup: int, updates: int) -> None:
        self.warmup, self.updates = warmup, updates
        self.seconds, self.cpu_seconds = 0.0, 0.0
        self._began = (0.0, 0.0)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Look at the clock where an update is done, whose gradients all ranks had to wait for."""
        batches = batch_idx + 1
        if batches == self.warmup * trainer.accumulate_grad_batches:
            self._began = time.perf_counter(), time.process_time()
        elif batches == (self.warmup + self.updates) * trainer.accumulate_grad_batches:
            self.seconds = time.perf_counter() - self._began[0]
            self.cpu_seconds = time.process_time() - self._began[1]
            trainer.should_stop = True


def train_updates(stage: StageConfig) -> None:
    """Train a stage of generated images; the first rank writes the seconds."""
    options = stage.run["ranks"]
    folder = Path(stage.folder)
    quieten()
    L.seed_everything(stage.seed, verbose=False)
    datamodule = build_data(stage)
    updates = options["warmup"] + options["batches"]
    images = updates * batch_plan(stage).images_per_update + BLOCK  # repeated augmentation leaves out a block's rest
    generate(datamodule, images, folder / "images")
    datamodule.labeller = build_labeller(stage, datamodule)
    module = build_module(stage, datamodule.info)
    module.watched = ()
    timer = UpdateTimer(options["warmup"], options["batches"])
    callbacks = build_callbacks(stage, datamodule.info, Console(quiet=True))
    trainer = build_trainer(stage, [OneCore(), *callbacks, timer], [], watches=False)
    kept = [callback for callback in trainer.callbacks if not isinstance(callback, ModelCheckpoint)]  # type: ignore[attr-defined]
    trainer.callbacks = kept  # type: ignore[attr-defined]
    trainer.fit(module, datamodule=datamodule)
    if trainer.is_global_zero:
        write_text(folder / RESULT, json.dumps({"seconds": timer.seconds, "cpu_seconds": timer.cpu_seconds}))


if __name__ == "__main__":
    train_updates(StageConfig.load(Path(sys.argv[1])))
