"""Where the time of a stage's training steps goes: torch's profiler over a few batches, as a table and a trace."""

import os
import tempfile
from pathlib import Path
from typing import Any

import lightning as L
import torch
from omegaconf import DictConfig
from torch.profiler import ProfilerActivity, profile

from deitlt.benchmarks.bench import Workload, open_bench
from deitlt.benchmarks.machine import Plain

SHOWN = 15  # operations in the table; the trace has all of them


class ProfiledBatches(L.Callback):
    """Profiles some batches after a warm-up, then ends the training. It has to be the last of the callbacks."""

    def __init__(self, warmup: int, batches: int) -> None:
        gpu = [ProfilerActivity.CUDA] if torch.cuda.is_available() else []
        self.profiler = profile(activities=[ProfilerActivity.CPU, *gpu])
        self.warmup, self.last = warmup, warmup + batches
        self._done = 0

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Begin after the warm-up, end after the batches."""
        self._done += 1
        if self._done == self.warmup:
            self.profiler.start()
        elif self._done == self.last:
            self.profiler.stop()
            trainer.should_stop = True


def measure_profile(config: DictConfig) -> Plain:
    """Profiles steps of `profile.stage` as `deitlt train` makes them.

    Returns:
        operations: the most expensive ones, by their own time, with milliseconds a step and calls a step. trace: the
        file of the whole trace, for chrome://tracing or Perfetto. The profiler takes time itself: read the shares.
    """
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # it would tell of GPUs that it does not find
    options = config.profile
    steps = ProfiledBatches(options.warmup, options.batches)
    with tempfile.TemporaryDirectory(prefix="deitlt-benchmark-") as folder:
        workload = Workload(options.warmup + options.batches, 1, config.generated)
        bench = open_bench(config, options.stage, Path(folder), workload)
        bench.trainer.callbacks.append(steps)  # type: ignore[attr-defined]
        bench.trainer.fit(bench.module, datamodule=bench.datamodule)
    on_gpu = bench.device.type == "cuda"
    events = steps.profiler.key_averages()
    own = {e.key: (e.self_device_time_total if on_gpu else e.self_cpu_time_total, e.count) for e in events}
    whole = sum(microseconds for microseconds, _ in own.values())
    falling = sorted(own.items(), key=lambda item: -item[1][0])
    operations = [
        {
            "operation": name,
            "share": microseconds / whole,
            "milliseconds": microseconds / options.batches / 1000,
            "calls": count / options.batches,
        }
        for name, (microseconds, count) in falling
        if microseconds > 0
    ]
    steps.profiler.export_chrome_trace(str(options.trace))
    return {
        "stage": options.stage,
        "device": bench.device.type,
        "batch_images": bench.batch_images,
        "operations": operations,
        "trace": str(options.trace),
    }


def profile_table(found: Plain) -> list[list[str]]:
    """The most expensive operations; the first row names the columns."""
    rows = [["operation", "share", "ms a step", "calls a step"]]
    for one in found["operations"][:SHOWN]:
        rows.append([one["operation"], f"{one['share']:.1%}", f"{one['milliseconds']:.2f}", f"{one['calls']:.0f}"])
    rest = sum(one["share"] for one in found["operations"][SHOWN:])
    return [*rows, ["all others", f"{rest:.1%}", "", ""], ["trace", found["trace"], "", ""]]
