"""What is evaluated beside the student: the moving average of its weights, and fusions of its tokens."""

from functools import partial
from typing import Any

import lightning as L
from timm.utils import ModelEmaV3
from torch import nn

from deitlt.data import LongTailDataModule
from deitlt.metrics import fusions_for
from deitlt.modules import ClassifierModule

EMA = "ema"  # the average's name among the evaluated networks, and its key in a checkpoint


class StudentAveraging(L.Callback):
    """Averages the student's network after each update: timm's `ModelEmaV3`, corrected for its beginning.

    The average is of the network alone; it shares the evaluation pass of the raw weights under the
    name 'ema' and is kept in the checkpoint under a key of its own.

    Args:
        decay: d, share of the average that one update keeps: after t updates the weights of update s have the
            share (1 - d) d^(t - s) / (1 - d^t), those before the first update none. The authors' .99996 is for
            one micro-batch of four an update; .99996^4 = .99984 is the same for the update.
    """

    def __init__(self, decay: float = 0.99984) -> None:
        self.decay = decay
        self.average: ModelEmaV3 | None = None
        self._updates = 0

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Copy the network, once, and have the module evaluate the copy."""
        assert isinstance(pl_module, ClassifierModule)
        if self.average is None:
            self.average = ModelEmaV3(pl_module.network)
        pl_module.evaluated[EMA] = self.average.module

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Follow the network to its device."""
        assert self.average is not None
        self.average.to(pl_module.device)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Count updates from where training begins or goes on."""
        self._updates = trainer.global_step

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Average once an update, not once a micro-batch."""
        assert isinstance(pl_module, ClassifierModule)
        if trainer.global_step > self._updates:
            self._updates = trainer.global_step
            self.update(pl_module.network, self._updates)

    def update(self, network: nn.Module, updates: int) -> None:
        """Take in a network's weights, after so many updates of them."""
        assert self.average is not None
        # Adam's correction (Kingma and Ba, ICLR 2015, section 3) of an average that begins with nothing.
        self.average.decay = 1 - (1 - self.decay) / (1 - self.decay**updates)
        self.average.update(network)

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keep the average under its own key."""
        assert self.average is not None
        checkpoint[EMA] = self.average.module.state_dict()

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Go on with the stored average."""
        assert self.average is not None
        self.average.module.load_state_dict(checkpoint[EMA])


class TokenFusion(L.Callback):
    """Has the test measure the tokens' fusions beside each token and the mean of their logits.

    The rules with weights are fitted for each evaluated network, with the weights that are tested, on the
    validation split; where there is none, only the mean of probabilities is measured. Under protocol=val that
    split has chosen the epoch as well; the test set has chosen nothing.
    """

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Fit on all held-out images; every rank looks at all of them and so finds the same."""
        assert isinstance(pl_module, ClassifierModule)
        datamodule = getattr(trainer, "datamodule", None)
        if "dist" not in pl_module.tokens or not isinstance(datamodule, LongTailDataModule):
            return
        for name, network in pl_module.evaluated.items():
            loader = datamodule.whole_val_dataloader()
            held_out = None if loader is None else ((images.to(pl_module.device), y) for images, y in loader)
            answer = partial(pl_module.answers, network)
            pl_module.fusions[name] = fusions_for(answer, held_out, pl_module.info.groups)
