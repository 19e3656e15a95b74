"""Stops a run whose loss is no longer a number, before it overwrites a good checkpoint."""

from pathlib import Path
from typing import Any, NoReturn

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
        """Look before the epoch's checkpoint is written, also at the weights: no loss has seen the last update's."""
        self._look_at_all(trainer, pl_module)

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """The same before a checkpoint that is written within an epoch."""
        if trainer.state.fn == "fit":
            self._look_at_all(trainer, pl_module)

    def _look_at_all(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._look()
        finite = torch.stack([parameter.isfinite().all() for parameter in pl_module.parameters()])
        if not bool(finite.all()):
            self._stop("The weights were", trainer.global_step - 1)

    def _look(self) -> None:
        if self._first_bad is not None and self._first_bad != torch.iinfo(torch.int64).max:
            self._stop("The loss was", int(self._first_bad))

    def _stop(self, what: str, update: int) -> NoReturn:
        last = self.folder / "last.ckpt"
        good = f"the last good checkpoint is {last}" if last.exists() else "no checkpoint was written yet"
        raise TrainingError(
            f"{what} not finite at update {update}; {good}; start anew with a smaller learning rate, such as "
            "student.optimizer.lr=1e-4, or with trainer.precision=32-true."
        )
