"""Stopping and going on: signals end a run with its last epoch kept, and seeded steps let a resumed run repeat it."""

import signal
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any

import lightning as L
import numpy as np
import torch
import torch.distributed as dist

from deitlt.errors import Preempted

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
GRACE = 300.0  # seconds that a run has, from the signal on, to finish the epoch at hand


def taken_signals() -> list[signal.Signals]:
    """The signals that stop a run: SIGTERM, SIGUSR1, and SIGUSR2 where a launcher waits for it (submitit does)."""
    launcher_waits = callable(signal.getsignal(signal.SIGUSR2))
    return [*SIGNALS, signal.SIGUSR2] if launcher_waits else [*SIGNALS]


class SeededSteps(L.Callback):
    """Seeds torch's global generator before each batch from (seed, rank, epoch, batch).

    Lightning stores no random state; so drop-path and dropout draw from a generator that depends on the step alone.
    Transforms and mixing have generators of their own. It must come before callbacks that remember the random state,
    such as SAM.

    Args:
        seed: the run's.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Seed this batch."""
        entropy = np.random.SeedSequence([self.seed, trainer.global_rank, trainer.current_epoch, batch_idx])
        torch.manual_seed(int(entropy.generate_state(1)[0]))


class Preemption(L.Callback):
    """Ends training when a signal came to any rank: after the epoch at hand, or at once if that would take too long.

    A run goes on from its last finished epoch, so an epoch that cannot be finished within `grace` seconds of the
    signal is given up, as soon as its speed says so. At an epoch's end the ranks agree by an all-reduce (on the CPU: a
    GPU is not waited for); a stop at once needs no agreement, for the other ranks cannot go on alone.

    Args:
        last: the checkpoint that a resumed run goes on from.
        grace: seconds.
        every: epochs between two checkpoints; one of another epoch is written here.

    Raises:
        Preempted: training was stopped.
    """

    def __init__(self, last: Path, grace: float = GRACE, every: int = 1) -> None:
        self.last, self.grace, self.every = last, grace, every
        self.signal = 0  # that came to this rank; 0 for none
        self._deadline = 0.0
        self._epoch_began = 0.0
        self._stopped_by = 0  # on any rank
        self._before: dict[signal.Signals, Any] = {}

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Take the signals; Lightning's own handlers would communicate from within, and hang."""
        if threading.current_thread() is threading.main_thread():  # no other gets signals
            self._before = {taken: signal.signal(taken, self._note) for taken in taken_signals()}

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Begin to measure how fast the epoch goes."""
        self._epoch_began = time.monotonic()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stop at once where the epoch's other batches would take longer than there is time."""
        if self.signal:
            now, done = time.monotonic(), batch_idx + 1
            left = (now - self._epoch_began) / done * (int(trainer.num_training_batches) - done)
            if now + left > self._deadline:
                raise Preempted(self.signal)

    def on_validation_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Stop at once where the time is up."""
        if self.signal and trainer.state.fn == "fit" and time.monotonic() > self._deadline:
            raise Preempted(self.signal)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Let this epoch be the last if a signal came to any rank."""
        came = torch.tensor(self.signal)
        if trainer.world_size > 1:
            dist.all_reduce(came, dist.ReduceOp.MAX)
        self._stopped_by = int(came)
        trainer.should_stop = trainer.should_stop or bool(self._stopped_by)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stop; a test, or a whole stage, might follow."""
        if self._stopped_by:
            if trainer.current_epoch % self.every:
                trainer.save_checkpoint(self.last)
            raise Preempted(self._stopped_by)

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
        if not self.signal:
            self.signal, self._deadline = signum, time.monotonic() + self.grace
