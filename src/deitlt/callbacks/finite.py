"""Stops a run whose loss is no longer a number, before it overwrites a good checkpoint."""

from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor

from deitlt.errors import TrainingError


class FiniteLoss(L.Callback):
    """Watches the loss on the device and looks at what it saw now and then, without waiting each step.

    Args:
        folder: where the stage's checkpoints are, for the message.
        every: batches between two looks; the end of an epoch, before its checkpoint, is always one.

    Raises:
        TrainingError: names the first bad update and the last good checkpoint.
    """

    def __init__(self, folder: Path, every: int = 50) -> None:
        self.folder = folder
        self.every = every
        self._first_bad: Tensor | None = None
        self._update = 0

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Note the update that this micro-batch belongs to: only some of them end with a step."""
        self._update = trainer.global_step

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Note the update if its loss is not finite; look every few batches."""
        loss = outputs["loss"].detach()
        never = torch.iinfo(torch.int64).max
        if self._first_bad is None:
            self._first_bad = torch.full((), never, dtype=torch.int64, device=loss.device)
        bad = torch.where(torch.isfinite(loss), never, self._update)
        self._first_bad = torch.minimum(self._first_bad, bad)
        if (batch_idx + 1) % self.every == 0:
            self._look()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Look before the epoch's checkpoint is written."""
        self._look()

    def _look(self) -> None:
        if self._first_bad is None or self._first_bad == torch.iinfo(torch.int64).max:
            return
        last = self.folder / "last.ckpt"
        good = f"the last good checkpoint is {last}" if last.exists() else "no checkpoint was written yet"
        raise TrainingError(
            f"The loss was not finite at update {int(self._first_bad)}; {good}; type a smaller learning "
            "rate, such as student.optimizer.lr=1e-4, or trainer.precision=32-true."
        )
