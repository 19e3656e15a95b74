"""A step with SAM over a plain one: the same network and batch, in turns, as Lightning makes them."""

from pathlib import Path
from typing import Any

import lightning as L
import torch
from omegaconf import DictConfig
from torch.utils.data import DataLoader, Dataset

from deitlt.benchmarks.bare_loop import BareLoop
from deitlt.benchmarks.bench import SAM, Workload, open_bench
from deitlt.benchmarks.fitting import RoundTimer
from deitlt.benchmarks.timing import ratio
from deitlt.callbacks import SharpnessAwareMinimization
from deitlt.types import StudentBatch

PLAIN, WITH_SAM = "plain", "sam"


class HeldBatch(Dataset[StudentBatch]):
    """One complete batch that is on its device, again and again."""

    def __init__(self, batch: StudentBatch, batches: int) -> None:
        self.batch, self.batches = batch, batches

    def __len__(self) -> int:
        return self.batches

    def __getitem__(self, index: int) -> StudentBatch:
        return self.batch


def sam_over_plain(config: DictConfig, name: str, folder: Path, workload: Workload) -> dict[str, Any]:
    """Trains a stage on one batch, a round without SAM and a round with it, and so on.

    Args:
        config: the run's.
        name: the stage.
        folder: where it may write.
        workload: rounds of each kind, and batches of a round.

    Returns:
        Seconds of each round, and the median of their ratios.
    """
    torch.compiler.reset()
    both = Workload(workload.batches, 2 * workload.rounds + 1, workload.generated)  # and a warm-up of each
    batch = BareLoop(open_bench(config, f"{SAM}{name}", folder / "batch", workload)).held[1]
    bench = open_bench(config, f"{SAM}{name}", folder, both)
    sam = next(one for one in bench.callbacks if isinstance(one, SharpnessAwareMinimization))
    timer = RoundTimer(bench.round_epochs, bench.device, lambda turn: _switch(bench.trainer, bench.module, sam))
    bench.trainer.callbacks.append(timer)  # type: ignore[attr-defined]
    loader = DataLoader(HeldBatch(batch, bench.batches), batch_size=None)
    bench.trainer.fit(bench.module, train_dataloaders=loader)
    # The warm-up, which is not among the rounds, was with SAM; the first round after it is without.
    taken = [one.seconds for one in timer.rounds][1:]
    found = {WITH_SAM: taken[0::2], PLAIN: taken[1::2]}
    return {"seconds": found, "batches": bench.round_batches, "sam_over_plain": ratio(found, WITH_SAM, PLAIN)}


def _switch(trainer: L.Trainer, module: L.LightningModule, sam: SharpnessAwareMinimization) -> None:
    """Take SAM out of the training, or put it back to where it was: behind the seeding of steps."""
    callbacks: list[L.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    if sam in callbacks:
        callbacks.remove(sam)
        sam.teardown(trainer, module, "fit")
    else:
        callbacks.insert(1, sam)
        sam.on_fit_start(trainer, module)
