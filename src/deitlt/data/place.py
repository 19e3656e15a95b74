"""Where training stands, as far as its data depend on it."""

import lightning as L
import numpy as np
import torch


class TrainingPlace:
    """Which rank, epoch and batch of a run is at hand.

    Args:
        trainer: the run's; None, where nobody trains, is the first epoch on a single CPU.
    """

    def __init__(self, trainer: L.Trainer | None) -> None:
        self.trainer = trainer

    @property
    def world(self) -> int:
        """How many ranks there are."""
        return 1 if self.trainer is None else self.trainer.world_size

    @property
    def rank(self) -> int:
        """This one's, over all hosts."""
        return 0 if self.trainer is None else self.trainer.global_rank

    @property
    def device(self) -> torch.device:
        """Where the batches go."""
        return torch.device("cpu") if self.trainer is None else self.trainer.strategy.root_device

    @property
    def first_epoch(self) -> int:
        """The epoch at which training begins or goes on, already while its loaders are made."""
        # `completed`, which `current_epoch` reads, is brought up to date only after that.
        return 0 if self.trainer is None else int(self.trainer.fit_loop.epoch_progress.current.processed)  # type: ignore[attr-defined]

    @property
    def batches_done(self) -> int:
        """Batches of the epoch at hand that a run had done which was stopped in the middle of it."""
        if self.trainer is None or not self.trainer.fit_loop.restarting:
            return 0
        return int(self.trainer.fit_loop.epoch_loop.batch_progress.current.completed)

    @property
    def step(self) -> int:
        """Which batch of this rank's epoch is at hand, in whatever run it came."""
        assert self.trainer is not None
        return int(self.trainer.fit_loop.epoch_loop.batch_progress.current.ready)

    def stream(self, seed: int, *purpose: int) -> np.random.Generator:
        """The batch's own generator, of the run's seed, for mixing or for the purpose that is named."""
        assert self.trainer is not None
        return np.random.default_rng((seed, self.rank, self.trainer.current_epoch, self.step, *purpose))
