import re

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from deitlt.callbacks import FiniteLoss
from deitlt.errors import TrainingError


class Breaking(L.LightningModule):
    """Its loss is not finite in the micro-batches named, counted over all epochs."""

    def __init__(self, bad, value=float("nan")):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))
        self.bad, self.value, self.seen = bad, value, 0

    def training_step(self, batch, batch_idx):
        self.seen += 1
        return self.weight * (self.value if self.seen - 1 in self.bad else 1.0)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.0)  # so that one bad loss does not spoil the next


def train(make_trainer, folder, bad, every=50, epochs=3, accumulate=1, value=float("nan")):
    last = ModelCheckpoint(folder, "last", save_on_train_epoch_end=True, enable_version_counter=False)
    trainer = make_trainer(
        callbacks=[FiniteLoss(folder, every), last],
        max_epochs=epochs,
        accumulate_grad_batches=accumulate,
        enable_checkpointing=True,
    )
    module = Breaking(bad, value)
    trainer.fit(module, torch.utils.data.DataLoader(range(6), batch_size=1))
    return module


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_names_the_update_and_the_last_checkpoint(make_trainer, tmp_path, value):
    with pytest.raises(TrainingError, match="not finite at update 14") as error:
        train(make_trainer, tmp_path, {14, 16}, value=value)
    assert f"the last good checkpoint is {tmp_path / 'last.ckpt'}" in str(error.value)
    assert re.search(r"start anew with a smaller learning rate, such as \S+lr=\S+", str(error.value))


def test_no_checkpoint_is_written_after_the_bad_update(make_trainer, tmp_path):
    with pytest.raises(TrainingError):
        train(make_trainer, tmp_path, {8})
    assert torch.load(tmp_path / "last.ckpt")["global_step"] == 6  # the first epoch's; the second had the bad one
    assert [path.name for path in tmp_path.glob("*.ckpt")] == ["last.ckpt"]


def test_says_so_where_there_is_no_checkpoint_yet(make_trainer, tmp_path):
    with pytest.raises(TrainingError, match=r"update 2; no checkpoint was written yet"):
        train(make_trainer, tmp_path, {2})
    assert not list(tmp_path.glob("*.ckpt"))


@pytest.mark.parametrize("micro_batch", range(12))
def test_names_the_update_that_a_micro_batch_belongs_to(make_trainer, tmp_path, micro_batch):
    update = 2 * (micro_batch // 6) + micro_batch % 6 // 4  # windows of 4 and 2 in an epoch of 6
    with pytest.raises(TrainingError, match=rf"at update {update};"):
        train(make_trainer, tmp_path, {micro_batch, *range(micro_batch + 4, 18)}, accumulate=4)


def test_looks_every_few_batches(make_trainer, tmp_path):
    module = Breaking({1})
    trainer = make_trainer(callbacks=[FiniteLoss(tmp_path, every=3)])
    with pytest.raises(TrainingError, match="at update 1;"):
        trainer.fit(module, torch.utils.data.DataLoader(range(6), batch_size=1))
    assert module.seen == 3


def test_finite_losses_are_left_alone(make_trainer, tmp_path):
    assert train(make_trainer, tmp_path, set()).seen == 18
