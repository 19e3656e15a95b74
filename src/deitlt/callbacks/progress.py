"""One progress bar for a stage, or one line now and then where nobody watches a terminal."""

import time
from typing import Any

import lightning as L
from lightning.pytorch.utilities import rank_zero_only
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class StageProgress(L.Callback):
    """Shows how far a stage is: epochs done, the loss, the time left.

    Lightning's bars count the batches of one epoch; a long-tailed recipe has hundreds of short epochs.

    Args:
        title: the stage's name.
        console: where to show it.
        lines: how many lines a stage prints where the console is no terminal.
    """

    def __init__(self, title: str, console: Console, lines: int = 5) -> None:
        self.title = title
        self.console = console
        self.lines = lines
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._began = time.monotonic()

    @rank_zero_only
    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Show the bar, from the epoch at which training begins or goes on."""
        self._began = time.monotonic()
        if not self.console.is_terminal:
            return
        self._bar = Progress(
            TextColumn("{task.description:<9}"),
            BarColumn(),
            TextColumn("{task.completed:.0f}/{task.total:.0f} epochs"),
            TextColumn("{task.fields[loss]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self.console,
        )
        self._task = self._bar.add_task(self.title, total=trainer.max_epochs, completed=trainer.current_epoch, loss="")
        self._bar.start()

    @rank_zero_only
    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Move the bar by a share of an epoch; long epochs should not look like a standstill."""
        if self._bar is not None:
            share = (batch_idx + 1) / max(1, int(trainer.num_training_batches))
            self._bar.update(self._task, completed=trainer.current_epoch + min(share, 0.99))

    @rank_zero_only
    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Say how the epoch went: without a loss where only its evaluation is run again, as after a preemption."""
        epoch, last = trainer.current_epoch + 1, trainer.max_epochs or 1
        found = trainer.callback_metrics.get("train/loss")
        loss = "" if found is None else f"loss {float(found):.3f}"
        if self._bar is not None:
            self._bar.update(self._task, completed=epoch, loss=loss)
        elif epoch == last or epoch % max(1, last // self.lines) == 0:
            parts = (f"{self.title}: epoch {epoch}/{last}", loss, f"{time.monotonic() - self._began:.0f} s")
            self.console.print(", ".join(part for part in parts if part), highlight=False)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Leave the finished bar on the screen."""
        self._stop()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Give the terminal back before an error is printed."""
        self._stop()

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
