"""Lightning's training as `deitlt train` does it, timed from inside and halted between rounds."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import lightning as L
import torch

from deitlt.benchmarks.bench import Bench
from deitlt.benchmarks.timing import finish
from deitlt.benchmarks.waiting import Waiting

BATCHES, EPOCHS = "between batches", "between epochs"


@dataclass(frozen=True)
class Round:
    """Seconds of a round, and those of them in which the device waited: for batches, and at epochs' ends."""

    seconds: float
    waited: float
    waited_between_epochs: float


class RoundTimer(L.Callback):
    """Times rounds of whole epochs; the first is a warm-up and does not count.

    It has to be the last of the callbacks. After each round training halts while `between` runs, so that
    alternatives can take turns with it in one process.

    Args:
        epochs: of a round.
        device: where the training runs.
        between: called after each round with its number; 0 is the warm-up.
    """

    def __init__(self, epochs: int, device: torch.device, between: Callable[[int], None] = lambda turn: None) -> None:
        self.epochs, self.device, self.between = epochs, device, between
        self.rounds: list[Round] = []
        self._waiting = Waiting(device)
        self._turn, self._began, self._kind = 0, 0.0, BATCHES

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Hear of each batch before it goes to the device; there is no callback's hook for that."""
        datamodule = getattr(trainer, "datamodule", None)
        if datamodule is None:
            return

        def on_before_batch_transfer(batch: Any, dataloader_idx: int) -> Any:
            self._waiting.end(self._kind)
            self._kind = BATCHES
            return batch

        datamodule.on_before_batch_transfer = on_before_batch_transfer

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Begin the warm-up."""
        self._resume()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """From here on the device may have to wait."""
        self._waiting.begin()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """After a round's last epoch let the others have their turn."""
        self._kind = EPOCHS
        if (trainer.current_epoch + 1) % self.epochs:
            return
        self._waiting.end(EPOCHS)
        finish(self.device)
        seconds = time.perf_counter() - self._began
        if self._turn > 0:
            waited = (self._waiting.seconds(kind) for kind in (BATCHES, EPOCHS))
            self.rounds.append(Round(seconds, *waited))
        self.between(self._turn)
        self._turn += 1
        self._resume()

    def _resume(self) -> None:
        finish(self.device)
        self._waiting.clear()
        self._kind = EPOCHS
        self._waiting.begin()
        self._began = time.perf_counter()


def fit_in_rounds(bench: Bench, between: Callable[[int], None] = lambda turn: None) -> list[Round]:
    """Train a stage, and let others have a turn after each round.

    Args:
        bench: the stage.
        between: called after each round with its number; 0 is the warm-up.

    Returns:
        The rounds that count.
    """
    timer = RoundTimer(bench.round_epochs, bench.device, between)
    bench.trainer.callbacks.append(timer)  # type: ignore[attr-defined]
    bench.trainer.fit(bench.module, datamodule=bench.datamodule)
    return timer.rounds
