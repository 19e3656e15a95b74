"""Measures where the time of a stage's training steps goes: the largest costs, named, as a table and a picture."""

import os
import time
import warnings
from pathlib import Path
from typing import Any

import lightning as L
import torch
from omegaconf import DictConfig
from torch.profiler import ProfilerActivity, profile

from deitlt.benchmarks.bench import Bench, Workload, open_bench, temporary_folder
from deitlt.benchmarks.costs import seconds_by_part
from deitlt.benchmarks.ranges import name_parts, named
from deitlt.benchmarks.settled_batch import with_batches
from deitlt.benchmarks.timing import finish
from deitlt.callbacks import StudentAveraging
from deitlt.engine.stage import quieten
from deitlt.figures import cost_bars

Plain = dict[str, Any]
SHOWN = 5  # costs in the table; the rest are in the JSON file


class ProfiledSteps(L.Callback):
    """Profiles some batches after a warm-up, then ends the training. It has to be the last of the callbacks.

    Args:
        warmup: batches before.
        batches: that are profiled.
        device: where the training runs.
    """

    def __init__(self, warmup: int, batches: int, device: torch.device) -> None:
        self.warmup, self.batches, self.device = warmup, batches, device
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device.type == "cuda" else [])]
        self.profiler = profile(activities=activities)
        self.seconds = 0.0
        self._done = 0

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Begin after the warm-up, end after the batches."""
        self._done += 1
        if self._done == self.warmup:
            finish(self.device)
            self.profiler.start()
            self._began = time.perf_counter()
        elif self._done == self.warmup + self.batches:
            finish(self.device)
            self.seconds = time.perf_counter() - self._began
            self.profiler.stop()
            trainer.should_stop = True


def measure_profile(config: DictConfig) -> Plain:
    """Profiles a stage's steps as `deitlt train` makes them, and draws the largest costs.

    Returns:
        Seconds of a step, and of each part, falling, its seconds and share. The profiler itself takes time: the
        shares are to be read, not the seconds.
    """
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # it would tell of GPUs that it does not find
    options = config.profile
    batches = options.warmup + options.batches
    with temporary_folder() as folder:
        workload = Workload(batches, 1, config.generated)
        config = with_batches(config, [options.stage], Path(folder), workload)
        bench = open_bench(config, options.stage, Path(folder), workload)
        steps = ProfiledSteps(options.warmup, options.batches, bench.device)
        _fit(bench, steps)
    on_gpu = bench.device.type == "cuda"
    parts = seconds_by_part(steps.profiler.events(), on_gpu, steps.seconds)  # type: ignore[no-untyped-call]
    costs = [
        {"part": name, "seconds": round(value / options.batches, 6), "share": round(value / steps.seconds, 4)}
        for name, value in parts.items()
    ]
    picture = Path(options.picture)
    shares = {str(cost["part"]): float(cost["share"]) for cost in costs}
    seconds = steps.seconds / options.batches
    cost_bars(
        shares, picture, f"One step of the {options.stage}: {1000 * seconds:.0f} ms for {bench.batch_images} images"
    )
    return {
        "stage": options.stage,
        "device": bench.device.type,
        "batch": bench.batch_images,
        "seconds": round(seconds, 6),
        "costs": costs,
        "picture": str(picture),
    }


def _fit(bench: Bench, steps: ProfiledSteps) -> None:
    """Train with the parts of a step named."""
    name_parts(bench.module, bench.datamodule, layers=not bench.stage.trainer["compile"])
    for callback in bench.callbacks:
        if isinstance(callback, StudentAveraging):
            callback.on_train_batch_end = named("moving average", callback.on_train_batch_end)  # type: ignore[method-assign]
    bench.trainer.callbacks.append(steps)  # type: ignore[attr-defined]
    with warnings.catch_warnings():
        quieten()
        bench.trainer.fit(bench.module, datamodule=bench.datamodule)


def profile_rows(found: Plain) -> list[tuple[str, str]]:
    """The largest costs, for a table."""
    rows = [("one step", f"{1000 * found['seconds']:.1f} ms for {found['batch']} images")]
    rows += [(cost["part"], f"{100 * cost['share']:.1f} %") for cost in found["costs"][:SHOWN]]
    rest = sum(cost["share"] for cost in found["costs"][SHOWN:])
    return [*rows, ("all others", f"{100 * rest:.1f} %"), ("picture", found["picture"])]
