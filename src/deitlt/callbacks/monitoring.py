"""How a stage goes: its progress, its speed, whether the loss is still a number, and whether it falls behind others."""

import json
import statistics
import time
from pathlib import Path
from typing import Any, NoReturn

import lightning as L
import torch
from lightning.pytorch.utilities import rank_zero_only
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor

from deitlt.errors import TrainingError

EVALUATIONS = "evaluations.json"  # in a job's folder: epochs done -> value
PRUNED = "pruned.json"  # in the stage's folder: where it was stopped


class StageProgress(L.Callback):
    """Shows how far a stage is: epochs done, the loss, images a second, the time left.

    Lightning's bars count the batches of one epoch; a long-tailed recipe has hundreds of short epochs.

    Args:
        title: the stage's name.
        console: where to show it.
        speed: counts the images; it stands before this one among the callbacks.
        lines: how many lines a stage prints where the console is no terminal.
    """

    def __init__(self, title: str, console: Console, speed: "Throughput", lines: int = 5) -> None:
        self.title = title
        self.console = console
        self.speed = speed
        self.lines = lines
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._began, self._first = time.monotonic(), 0

    @rank_zero_only
    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Show the bar, from the epoch at which training begins or goes on."""
        self._began, self._first = time.monotonic(), trainer.current_epoch
        if not self.console.is_terminal:
            return
        self._bar = Progress(
            TextColumn("{task.description:<9}"),
            BarColumn(bar_width=20),
            TextColumn("{task.completed:.0f}/{task.total:.0f} epochs"),
            TextColumn("{task.fields[loss]}"),
            TextColumn("{task.fields[speed]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self.console,
        )
        begins: dict[str, Any] = {"total": trainer.max_epochs, "completed": trainer.current_epoch}
        self._task = self._bar.add_task(self.title, **begins, loss="", speed="")
        self._bar.start()

    @rank_zero_only
    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Move the bar by a share of an epoch; long epochs should not look like a standstill."""
        if self._bar is not None:
            share = (batch_idx + 1) / max(1, int(trainer.num_training_batches))
            done = trainer.current_epoch + min(share, 0.99)
            self._bar.update(self._task, completed=done, speed=self._images_per_second(trainer))

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Say how the epoch went."""
        found = trainer.callback_metrics.get("train/loss")  # on every rank: it is a mean over all of them
        if not trainer.is_global_zero:
            return
        epoch, last = trainer.current_epoch + 1, trainer.max_epochs or 1
        loss = "" if found is None else f"loss {float(found):.3f}"
        if self._bar is not None:
            self._bar.update(self._task, completed=epoch, loss=loss)
        elif epoch == last or epoch % max(1, last // self.lines) == 0:
            seconds = time.monotonic() - self._began
            left = seconds / (epoch - self._first) * (last - epoch)
            times = f"{in_words(seconds)}, {in_words(left)} left"
            parts = (f"{self.title}: epoch {epoch}/{last}", loss, self._images_per_second(trainer), times)
            self.console.print(", ".join(part for part in parts if part), highlight=False)

    def _images_per_second(self, trainer: L.Trainer) -> str:
        """Of the epoch so far; empty where no time has passed."""
        found = self.speed.images_per_second
        return "" if found is None else f"{trainer.world_size * found:,.0f} images/s"

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


def in_words(seconds: float) -> str:
    """A time to be read: seconds of minutes, minutes of hours, hours of days."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


class Throughput(L.Callback):
    """Logs speed/images_per_second and speed/epoch_seconds of each epoch, and measures the first update.

    The seconds run from the epoch's start to the end of its last batch, or of the first update, and so hold the reading
    of images and compiling, but no evaluation. The device is waited for once, at the first update's end: what it still
    has to do at an epoch's end is a few batches. Images are those of all ranks, each counted once for each of its whole
    views; local crops count nowhere.

    Args:
        title: the stage's name.
        console: where to say how long the first update took, where networks are compiled; None says nothing.
    """

    def __init__(self, title: str, console: Console | None = None) -> None:
        self.title = title
        self.console = console
        self.first_step_seconds: float | None = None  # of a stage, or of what was resumed
        self._began = self._ended = 0.0
        self._images = 0
        self._update = 0

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Begin to count."""
        self._began, self._images, self._update = time.monotonic(), 0, trainer.global_step

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count a batch's images; the first update may be several micro-batches."""
        self._images += len(batch.images)
        is_first = self.first_step_seconds is None and trainer.global_step > self._update
        if is_first and pl_module.device.type == "cuda":
            torch.cuda.synchronize(pl_module.device)
        self._ended = time.monotonic()
        if is_first:
            self.first_step_seconds = self._ended - self._began
            if self.console is not None and trainer.is_global_zero:
                said = f"{self.title}: first step {self.first_step_seconds:.1f} s, compiling included"
                self.console.print(said, highlight=False, markup=False)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log what the epoch made."""
        if (speed := self.images_per_second) is not None:
            pl_module.log("speed/images_per_second", trainer.world_size * speed, rank_zero_only=True)
            pl_module.log("speed/epoch_seconds", self._ended - self._began, rank_zero_only=True)

    @property
    def images_per_second(self) -> float | None:
        """Of this rank, in the epoch at hand; None where no time has passed."""
        seconds = self._ended - self._began
        return self._images / seconds if seconds > 0 else None


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
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
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


class MedianPruning(L.Callback):
    """Stops a job whose best value so far is worse than the median of the others after as many epochs.

    The rule is Golovin et al.'s (Google Vizier, 2017, section 3.1.2), as Optuna's MedianPruner has it. The others are
    the sweep's finished jobs, whose folders lie beside this one's; each leaves its values in a file.

    Args:
        metric: name of the number, as it is logged, such as 'val/avg/balanced'.
        job: folder of this job.
        stage: folder of the stage.
        direction: maximize | minimize.
        after_trials: finished jobs before the first may be stopped.
        after_epochs: epochs that each job is given in any case.
    """

    def __init__(
        self,
        metric: str,
        job: Path,
        stage: Path,
        direction: str = "maximize",
        after_trials: int = 4,
        after_epochs: int = 1,
    ) -> None:
        self.metric, self.job, self.stage = metric, job, stage
        self.sign = 1.0 if direction == "maximize" else -1.0
        self.after_trials, self.after_epochs = after_trials, after_epochs
        self.is_pruned = False

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Keep the number, and stop every rank if it is behind; the epoch's checkpoint is still written."""
        if trainer.state.fn != "fit" or self.metric not in trainer.callback_metrics:
            return
        epoch, value = trainer.current_epoch + 1, float(trainer.callback_metrics[self.metric])
        behind = trainer.is_global_zero and self._is_behind(epoch, value)
        if trainer.strategy.broadcast(behind) and epoch != trainer.max_epochs:
            self.is_pruned = trainer.should_stop = True
            if trainer.is_global_zero:
                (self.stage / PRUNED).write_text(json.dumps({"epoch": epoch, self.metric: value}))

    def _is_behind(self, epoch: int, value: float) -> bool:
        own = {**_evaluations(self.job), str(epoch): value}
        (self.job / EVALUATIONS).write_text(json.dumps(own))
        finished = [file.parent for file in self.job.parent.glob("*/metrics.json") if file.parent != self.job]
        others = [found[str(epoch)] for job in finished if str(epoch) in (found := _evaluations(job))]
        if epoch <= self.after_epochs or len(others) < max(1, self.after_trials):
            return False
        best = max(self.sign * known for at, known in own.items() if int(at) <= epoch)
        return best < statistics.median(self.sign * other for other in others)


def _evaluations(job: Path) -> dict[str, float]:
    """Epochs done -> value, of one job."""
    file = job / EVALUATIONS
    found: dict[str, float] = json.loads(file.read_text()) if file.exists() else {}
    return found
