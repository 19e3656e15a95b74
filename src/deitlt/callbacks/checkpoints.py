"""Which checkpoints a stage keeps: its last one, and the best of its candidate epochs."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import lightning as L
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor

from deitlt.tracking import TAKES_TWICE


class LastCheckpoint(ModelCheckpoint):
    """Lightning's `ModelCheckpoint`, but what an epoch logged is in metrics.csv before its checkpoint is written.

    Lightning logs an epoch after it has saved it; a process that is killed between the two would lose the row, for a
    resumed run begins with the next epoch. Lightning's own writing of the row follows, and changes nothing of it; so it
    is in TensorBoard and MLflow.
    """

    _known: Mapping[str, Tensor] = MappingProxyType({})

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Note what earlier epochs logged; Lightning keeps it."""
        self._known = dict(trainer.callback_metrics)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the row, then the checkpoint."""
        found = trainer.callback_metrics  # on every rank: some are means over all of them
        row = {name: value.item() for name, value in found.items() if self._known.get(name) is not value}
        for logger in trainer.loggers:
            if isinstance(logger, TAKES_TWICE):
                logger.log_metrics({**row, "epoch": trainer.current_epoch}, trainer.global_step - 1)
        super().on_train_epoch_end(trainer, pl_module)


class BestCheckpoint(ModelCheckpoint):
    """Has the candidate epochs evaluated, and keeps the best of them.

    Candidates are every `every`-th epoch, each from the beginning of re-weighting on, and the last: what re-weighting
    changes, it changes within few epochs.

    Args:
        path: the checkpoint.
        monitor: the accuracy that chooses; the larger is the better, of equals the earlier.
        every: epochs between two candidates before re-weighting.
        drw_start: the first epoch of re-weighting, counted from 0; None without it.
    """

    def __init__(self, path: Path, monitor: str, every: int, drw_start: int | None) -> None:
        super().__init__(
            dirpath=path.parent,
            filename=path.stem,
            monitor=monitor,
            mode="max",
            save_on_train_epoch_end=True,
            enable_version_counter=False,
        )
        self.every, self.drw_start = every, drw_start

    def is_candidate(self, epoch: int, epochs: int) -> bool:
        """Whether an epoch, counted from 0, is evaluated and may become the best."""
        reweighted = self.drw_start is not None and epoch >= self.drw_start
        return reweighted or (epoch + 1) % self.every == 0 or epoch + 1 == epochs

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Have Lightning evaluate this epoch, or not."""
        assert trainer.max_epochs is not None
        is_candidate = self.is_candidate(trainer.current_epoch, trainer.max_epochs)
        trainer.check_val_every_n_epoch = 1 if is_candidate else trainer.max_epochs + 1

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Keep a candidate that is better than all before."""
        if trainer.check_val_every_n_epoch == 1:
            super().on_train_epoch_end(trainer, pl_module)
