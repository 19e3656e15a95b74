import lightning as L
import pytest
import torch

from deitlt.callbacks import DeferredReweighting
from deitlt.data import LongTailDataModule
from deitlt.errors import ConfigError
from deitlt.losses import effective_number_weights

COUNTS = (40, 20, 8, 2)


class Watching(L.Callback):
    """What the loss and the data module are set to in each epoch's first step."""

    def __init__(self):
        self.weights, self.mixing = {}, {}

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.weights.setdefault(trainer.current_epoch, pl_module.loss.class_weights)
        if isinstance(trainer.datamodule, LongTailDataModule):
            self.mixing.setdefault(trainer.current_epoch, trainer.datamodule.mixing_on)


def watch(make_trainer, module, batches, drw, first_epoch=0):
    watching = Watching()
    trainer = make_trainer(callbacks=[drw, watching], max_epochs=4)
    trainer.fit_loop.epoch_progress.current.completed = first_epoch
    trainer.fit_loop.epoch_progress.current.processed = first_epoch
    trainer.fit(module, batches)
    return watching


def test_weights_begin_at_the_epoch(make_trainer, student_module, student_batches):
    seen = watch(make_trainer, student_module(), student_batches(), DeferredReweighting(2, COUNTS))
    assert seen.weights[0] is None
    assert seen.weights[1] is None
    expected = effective_number_weights(COUNTS, 0.9999)
    assert torch.equal(seen.weights[2], expected)
    assert torch.equal(seen.weights[3], expected)
    assert expected.sum() == pytest.approx(4)


@pytest.mark.parametrize("first", [1, 3])
def test_a_resumed_run_needs_no_state(make_trainer, student_module, student_batches, first):
    module = student_module()
    module.reweight(torch.full((4,), 7.0))  # whatever a former run left
    seen = watch(make_trainer, module, student_batches(), DeferredReweighting(2, COUNTS), first)
    assert sorted(seen.weights) == list(range(first, 4))
    assert [seen.weights[epoch] is not None for epoch in sorted(seen.weights)] == [e >= 2 for e in range(first, 4)]
    assert DeferredReweighting(2, COUNTS).state_dict() == {}


class Images(LongTailDataModule):
    """The digits' data module with batches that are complete already."""

    def __init__(self, batches):
        super().__init__()
        self.batches = batches

    def train_dataloader(self):
        return self.batches

    def on_after_batch_transfer(self, batch, dataloader_idx):
        return batch


@pytest.mark.parametrize("stop_mixing", [True, False])
@pytest.mark.parametrize("first", [0, 3])
def test_mixing_ends_where_the_recipe_says_so(make_trainer, student_module, student_batches, stop_mixing, first):
    datamodule = Images(student_batches())
    drw = DeferredReweighting(2, COUNTS, stop_mixing=stop_mixing)
    seen = watch(make_trainer, student_module(), datamodule, drw, first)
    assert seen.mixing == {epoch: not (stop_mixing and epoch >= 2) for epoch in range(first, 4)}


def test_a_module_without_weights_is_refused(make_trainer, student_batches):
    class Plain(L.LightningModule):
        def training_step(self, batch, batch_idx):
            raise AssertionError

        def configure_optimizers(self):
            return torch.optim.SGD([torch.nn.Parameter(torch.ones(()))], lr=0.1)

    with pytest.raises(ConfigError, match=r"Plain has no reweight\(weights\); type drw=null"):
        make_trainer(callbacks=[DeferredReweighting(2, COUNTS)]).fit(Plain(), student_batches())
