"""A signal ends training with a checkpoint of the very update, from which a resumed run goes on exactly there."""

import signal
import threading
from pathlib import Path
from types import FrameType
from typing import Any

import lightning as L
import torch
import torch.distributed as dist
from lightning.pytorch.callbacks import ModelCheckpoint

from deitlt.callbacks.epoch_means import add_sums, means_so_far, sums_so_far
from deitlt.errors import Preempted

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
# In this callback's state: what was logged in an epoch that was stopped between its batches, or in its evaluation.
SUMS, MEANS = "epoch_means", "finished_epoch_means"


def taken_signals() -> list[signal.Signals]:
    """The signals that stop a run: SIGTERM, SIGUSR1, and SIGUSR2 where a launcher waits for it (submitit does)."""
    launcher_waits = callable(signal.getsignal(signal.SIGUSR2))
    return [*SIGNALS, signal.SIGUSR2] if launcher_waits else [*SIGNALS]


class Preemption(L.Callback):
    """Stops training after the update at hand when a signal came to any rank, with a checkpoint.

    It looks before each update and before each batch of an evaluation, never within an accumulation window: the
    gradients of half an update are in no checkpoint. All ranks stop at one update, for each look is a maximum over
    them, on the CPU (a GPU is not waited for). It has to be the last callback but for the checkpoints. The counters
    are written as they stand between two batches, so that Lightning goes on with the epoch's next batch.

    Args:
        last: the checkpoint that a resumed run goes on from.
    """

    def __init__(self, last: Path) -> None:
        self.last = last
        self.signal = 0  # that came to this rank; 0 for none
        self._before: dict[signal.Signals, Any] = {}
        self._group: Any = None
        self._sums: dict[str, tuple[float, int]] = {}
        self._means: dict[str, float] = {}

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Take the signals while training; Lightning's own handler would communicate from within, and hang."""
        if stage == "fit" and threading.current_thread() is threading.main_thread():  # no other gets signals
            trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]
            self._before = {taken: signal.signal(taken, self._note) for taken in taken_signals()}

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Open a way for the ranks to agree that waits for no GPU."""
        if trainer.world_size > 1 and dist.get_backend() != "gloo":
            self._group = dist.new_group(backend="gloo")

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Count an epoch that was begun before the resume as one that is begun: Lightning leaves that out."""
        epochs = trainer.fit_loop.epoch_progress.current
        epochs.ready = epochs.started + 1  # type: ignore[attr-defined]

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Stop between two updates."""
        if batch_idx % trainer.accumulate_grad_batches == 0 and (stopped_by := self._agreed(trainer)):
            _step_back(trainer)
            self._sums = sums_so_far(trainer) or self._sums  # of the last stop, if no batch was done since
            self._stop(trainer, stopped_by)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Add to the epoch's means what was logged before the resume."""
        if self._sums and trainer.is_global_zero:
            add_sums(trainer, self._sums)
        self._sums = {}

    def on_validation_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Stop before a batch of an evaluation within training; the resumed run begins that evaluation anew."""
        if trainer.state.fn == "fit" and (stopped_by := self._agreed(trainer)):
            _before_evaluation(trainer)
            self._means = means_so_far(trainer) or self._means
            self._stop(trainer, stopped_by)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log what an epoch had logged that was stopped in its evaluation: it has no more batch that would."""
        for name, mean in self._means.items():
            pl_module.log(name, mean, rank_zero_only=True)  # of all ranks already
        self._means = {}

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stop after the last update, too: a test, or a whole stage, may follow."""
        if stopped_by := self._agreed(trainer):
            if self._is_written(trainer):
                raise Preempted(stopped_by)
            self._stop(trainer, stopped_by)

    def state_dict(self) -> dict[str, Any]:
        """What was logged in the epoch so far, where one is being stopped."""
        return {SUMS: self._sums, MEANS: self._means}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Remember it until the epoch's next batch has logged, or until its end."""
        self._sums = dict(state_dict[SUMS])
        self._means = dict(state_dict.get(MEANS, {}))  # older checkpoints have none

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Give the signals back; one that came too late for all looks is sent again."""
        if stage == "fit":
            self._give_back()
            if came := self.signal:
                self.signal = 0
                signal.raise_signal(came)

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Give them back where training broke off, after which Lightning calls no teardown."""
        self._give_back()

    def _give_back(self) -> None:
        for taken, before in self._before.items():
            signal.signal(taken, before)
        self._before = {}

    def _note(self, signum: int, frame: FrameType | None) -> None:
        self.signal = signum

    def _agreed(self, trainer: L.Trainer) -> int:
        """The signal that came to any of the ranks, or 0."""
        if trainer.world_size == 1:
            return self.signal
        came = torch.tensor(self.signal)
        dist.all_reduce(came, dist.ReduceOp.MAX, group=self._group)
        return int(came)

    def _is_written(self, trainer: L.Trainer) -> bool:
        """Whether the checkpoint is of the last update: one at an epoch's end is written whatever comes."""
        return any(
            callback._last_global_step_saved == trainer.global_step
            for callback in trainer.checkpoint_callbacks
            if isinstance(callback, ModelCheckpoint) and callback._last_checkpoint_saved == str(self.last)
        )

    def _stop(self, trainer: L.Trainer, stopped_by: int) -> None:
        trainer.save_checkpoint(self.last)
        raise Preempted(stopped_by)


def _step_back(trainer: L.Trainer) -> None:
    """Set the loops' counters to where they were before the batch at hand was fetched.

    An epoch of which a batch is done counts as about to start, so that its hooks run again; one of which none is
    done, as not yet begun.
    """
    loop = trainer.fit_loop
    batches, epochs = loop.epoch_loop.batch_progress, loop.epoch_progress
    batches.is_last_batch = False
    for count in (batches.total, batches.current):
        count.ready -= 1
    for count in (epochs.total, epochs.current):
        count.started -= 1  # type: ignore[attr-defined]
        count.ready -= int(batches.current.ready == 0)


def _before_evaluation(trainer: L.Trainer) -> None:
    """Set the loops' counters to the end of the epoch's last batch, with an evaluation that has to be run."""
    loop = trainer.fit_loop
    for count in (loop.epoch_progress.total, loop.epoch_progress.current):
        count.started -= 1  # type: ignore[attr-defined]
    evaluated = loop.epoch_loop.val_loop.batch_progress
    for batch_count in (evaluated.total, evaluated.current):  # begun, and no batch done: what Lightning runs again
        batch_count.ready, batch_count.started = 1, 1  # type: ignore[attr-defined]
        batch_count.processed, batch_count.completed = 0, 0  # type: ignore[attr-defined]
