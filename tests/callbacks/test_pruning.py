import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader

from deitlt.callbacks import Pruning
from deitlt.types import ImageBatch


@pytest.fixture
def fitted(student_module, student_batches, make_trainer, tmp_path):
    """Trains for four epochs with a judge; answers with the trainer, the callback and what the judge was asked."""

    def fit(judge):
        asked = []

        def noted(epoch, value):
            asked.append((epoch, value))
            return judge(epoch)

        images = DataLoader([ImageBatch(torch.randn(4, 3, 8, 8), torch.arange(4))], batch_size=None)
        callback = Pruning("val/avg/balanced", noted)
        last = ModelCheckpoint(tmp_path, filename="last", save_on_train_epoch_end=True)
        options = {"max_epochs": 4, "limit_val_batches": 1, "enable_checkpointing": True}
        trainer = make_trainer(callbacks=[callback, last], **options)
        trainer.fit(student_module(kind="none"), student_batches(2), [images])
        return trainer, callback, asked

    return fit


def test_a_stage_that_is_good_enough_is_trained_to_its_end(fitted):
    trainer, callback, asked = fitted(lambda epoch: False)
    assert [epoch for epoch, _ in asked] == [1, 2, 3, 4]
    assert all(0 <= value <= 100 for _, value in asked)
    assert callback.pruned_at is None
    assert trainer.current_epoch == 4


def test_a_stage_is_stopped_after_the_epoch_in_which_the_judge_says_so_with_its_checkpoint(fitted, tmp_path):
    trainer, callback, asked = fitted(lambda epoch: epoch == 2)
    assert (callback.pruned_at, callback.value) == asked[-1]
    assert len(asked) == trainer.current_epoch == 2
    assert torch.load(tmp_path / "last.ckpt", weights_only=False)["epoch"] == 1


def test_a_verdict_after_the_last_epoch_comes_too_late(fitted):
    _, callback, _ = fitted(lambda epoch: epoch == 4)
    assert callback.pruned_at is None
