"""How fast a stage trains, epoch by epoch."""

import time
from typing import Any

import lightning as L


class Throughput(L.Callback):
    """Logs speed/images_per_second and speed/epoch_seconds of each epoch.

    The seconds run from the epoch's start to the end of its last batch, and so hold the reading of images but no
    evaluation. The device is never waited for: what it still has to do then is a few batches of an epoch. Images are
    those of all ranks, each counted once for each of its whole views; local crops count nowhere. Of an epoch that
    was stopped in its midst, what comes after the stop is measured.
    """

    def __init__(self) -> None:
        self._began: float | None = None
        self._ended = 0.0
        self._images = 0

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Begin to count."""
        self._began, self._images = time.monotonic(), 0

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Begin to count in the midst of an epoch, of which Lightning tells no start."""
        if self._began is None:
            self._began, self._images = time.monotonic(), 0

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Count a batch's images."""
        self._images += len(batch.images)
        self._ended = time.monotonic()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log what the epoch made."""
        seconds = 0.0 if self._began is None else self._ended - self._began
        self._began = None
        if seconds > 0:
            speed = trainer.world_size * self._images / seconds
            pl_module.log("speed/images_per_second", speed, rank_zero_only=True)
            pl_module.log("speed/epoch_seconds", seconds, rank_zero_only=True)
