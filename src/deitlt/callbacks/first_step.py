"""How long the first step took: what compiling costs."""

import time
from typing import Any

import lightning as L
import torch
from rich.console import Console


class FirstStep(L.Callback):
    """Measures the first update of a stage, or of what was resumed, and says it where networks are compiled.

    The seconds run from the first epoch's start to the update's end, and so hold the first images' reading, and
    compiling. The device is waited for once, at their end.

    Args:
        title: the stage's name.
        console: where to say it; None says nothing.
    """

    def __init__(self, title: str, console: Console | None = None) -> None:
        self.title = title
        self.console = console
        self.seconds: float | None = None
        self._began: float | None = None
        self._update = 0

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Begin, once."""
        if self._began is None:
            self._began, self._update = time.monotonic(), trainer.global_step

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """End with the first update, which may be several micro-batches."""
        if self.seconds is not None or self._began is None or trainer.global_step == self._update:
            return
        if pl_module.device.type == "cuda":
            torch.cuda.synchronize(pl_module.device)
        self.seconds = time.monotonic() - self._began
        if self.console is not None and trainer.is_global_zero:
            self.console.print(
                f"{self.title}: first step {self.seconds:.1f} s, compiling included", highlight=False, markup=False
            )
