"""Random draws inside the network that a resumed run repeats."""

from typing import Any

import lightning as L
import numpy as np
import torch


class SeededSteps(L.Callback):
    """Seeds torch's stream before each batch from (seed, rank, epoch, batch).

    Lightning stores no random state; so drop-path and dropout draw from a stream that depends on the
    step alone. Views and mixing have generators of their own. It must come before callbacks that
    remember the stream, such as SAM.

    Args:
        seed: the run's.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Begin this batch's stream."""
        entropy = np.random.SeedSequence([self.seed, trainer.global_rank, trainer.current_epoch, batch_idx])
        torch.manual_seed(int(entropy.generate_state(1)[0]))
