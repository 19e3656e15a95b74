"""Rules that fuse the student's tokens, fitted on the validation split before the test."""

from functools import partial

import lightning as L

from deitlt.data import LongTailDataModule
from deitlt.metrics import fusions_for
from deitlt.modules import ClassifierModule


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
