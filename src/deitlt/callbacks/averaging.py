"""The moving average of the student's weights, evaluated beside the raw ones."""

from typing import Any

import lightning as L
from timm.utils import ModelEmaV3

from deitlt.errors import ConfigError
from deitlt.modules import ClassifierModule

EMA = "ema"  # the average's name among the evaluated networks, and its key in a checkpoint


class StudentAveraging(L.Callback):
    """Averages the student's network after each update (timm's `ModelEmaV3`).

    The average is of the network alone; it shares the evaluation pass of the raw weights under the
    name 'ema' and is kept in the checkpoint under a key of its own.

    Args:
        decay: share of the average that one update keeps. The authors' .99996 is for one micro-batch
            of four an update; .99996^4 = .99984 is the same for the update.
        warmup: begin with a small decay, without which a short run's average is mostly its first weights.

    Raises:
        ConfigError: if the decay is no share below 1.
    """

    def __init__(self, decay: float = 0.99984, warmup: bool = True) -> None:
        if not 0 <= decay < 1:
            raise ConfigError(f"ema.decay={decay} is no share below 1; type ema.decay=0.999, say.")
        self.decay = decay
        self.warmup = warmup
        self.average: ModelEmaV3 | None = None
        self._updates = 0

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Copy the network, once, and have the module evaluate the copy."""
        assert isinstance(pl_module, ClassifierModule)
        if self.average is None:
            self.average = ModelEmaV3(pl_module.network, decay=self.decay, use_warmup=self.warmup)
        pl_module.evaluate_also(EMA, self.average.module)

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Follow the network to its device."""
        assert self.average is not None
        self.average.to(pl_module.device)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Count updates from where training begins or goes on."""
        self._updates = trainer.global_step

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Average once an update, not once a micro-batch."""
        assert self.average is not None
        assert isinstance(pl_module, ClassifierModule)
        if trainer.global_step > self._updates:
            self._updates = trainer.global_step
            self.average.update(pl_module.network, step=self._updates)

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keep the average under its own key."""
        assert self.average is not None
        checkpoint[EMA] = self.average.module.state_dict()

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Go on with the stored average."""
        assert self.average is not None
        self.average.module.load_state_dict(checkpoint[EMA])
