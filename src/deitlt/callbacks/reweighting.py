"""Deferred re-weighting: the tail counts more once the features are learnt."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import lightning as L
from torch import Tensor

from deitlt.data import LongTailDataModule
from deitlt.errors import ConfigError
from deitlt.losses import effective_number_weights


@runtime_checkable
class Reweighted(Protocol):
    """A module whose loss can be weighted by class."""

    def reweight(self, weights: Tensor | None) -> None:
        """Weights [C] for the loss, or None for none."""


class DeferredReweighting(L.Callback):
    """From epoch K weights the loss by inverse effective numbers, and ends mixing where the recipe says so.

    DRW is Cao et al. (2019), section 3.4; the weights are `losses.effective_number_weights`. The callback
    keeps no state: each epoch it sets what that epoch needs, so a resumed run is right without help.

    Args:
        start_epoch: K, counted from 0.
        counts: training images of each class.
        beta: of the effective number (1 - beta^n) / (1 - beta).
        stop_mixing: ask the data module for unmixed images and hard labels from K on.
    """

    def __init__(self, start_epoch: int, counts: Sequence[int], beta: float = 0.9999, stop_mixing: bool = True) -> None:
        self.start_epoch = start_epoch
        self.weights = effective_number_weights(counts, beta)
        self.stop_mixing = stop_mixing

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Set what this epoch needs: weights or none, mixing or not."""
        if not isinstance(pl_module, Reweighted):
            raise ConfigError(
                f"{type(pl_module).__name__} has no reweight(weights); type drw=null to train it without."
            )
        deferred = trainer.current_epoch >= self.start_epoch
        pl_module.reweight(self.weights.to(pl_module.device) if deferred else None)
        datamodule = getattr(trainer, "datamodule", None)
        if isinstance(datamodule, LongTailDataModule):
            datamodule.mixing_on = not (deferred and self.stop_mixing)
