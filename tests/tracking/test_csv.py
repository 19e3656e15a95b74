import csv

import lightning as L
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from deitlt.tracking import AppendingCSVLogger


def rows(folder):
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def text(folder):
    return (folder / "metrics.csv").read_text()


def test_metrics_of_one_epoch_and_step_share_a_row(tmp_path):
    logger = AppendingCSVLogger(tmp_path)
    logger.log_metrics({"epoch": 0, "a": 1.123456, "b": 2}, step=1)
    logger.log_metrics({"epoch": 0, "a": 3.5, "b": 4}, step=2)
    logger.log_metrics({"epoch": 0, "b": 5}, step=2)
    logger.log_metrics({"epoch": 0, "b": 6}, step=1)
    assert text(tmp_path) == "epoch,step,a,b\n0,1,1.123456,6\n0,2,3.5,5\n"
    logger.log_metrics({"epoch": 1.0, "a": torch.tensor(9.25), "c": 1}, step=3)
    assert text(tmp_path) == "epoch,step,a,b,c\n0,1,1.123456,6,\n0,2,3.5,5,\n1,3,9.25,,1\n"
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.csv"]


def test_a_step_that_is_not_given_is_the_last_one(tmp_path):
    logger = AppendingCSVLogger(tmp_path)
    logger.log_metrics({"a": 1})
    logger.log_metrics({"epoch": 2, "a": 1}, step=9)
    logger.log_metrics({"epoch": 2, "b": 3})
    assert [(row["epoch"], row["step"], row["b"]) for row in rows(tmp_path)] == [("", "0", ""), ("2", "9", "3")]


def test_a_second_logger_goes_on_after_a_checkpoint(tmp_path):
    first = AppendingCSVLogger(tmp_path)
    for step in range(6):
        first.log_metrics({"epoch": step // 2, "loss": 10 + step}, step=step)
    second = AppendingCSVLogger(tmp_path)
    second.keep_until(3)
    assert [row["step"] for row in rows(tmp_path)] == ["0", "1", "2", "3"]
    second.log_metrics({"epoch": 1, "loss": 20}, step=3)
    second.log_metrics({"epoch": 2, "loss": 21, "extra": 1}, step=4)
    assert text(tmp_path) == "epoch,step,loss,extra\n0,0,10,\n0,1,11,\n1,2,12,\n1,3,20,\n2,4,21,1\n"


def test_keeping_nothing_and_keeping_all(tmp_path):
    logger = AppendingCSVLogger(tmp_path)
    logger.keep_until(5)
    assert not (tmp_path / "metrics.csv").exists()
    logger.log_metrics({"epoch": 0, "a": 1}, step=5)
    logger.keep_until(5)
    assert len(rows(tmp_path)) == 1
    logger.keep_until(-1)
    assert text(tmp_path) == "epoch,step\n"
    logger.log_metrics({"epoch": 0, "a": 2}, step=0)
    assert text(tmp_path) == "epoch,step,a\n0,0,2\n"


@pytest.mark.parametrize("content", ["", "epo"])
def test_a_file_without_a_whole_header_is_begun_anew(tmp_path, content):
    (tmp_path / "metrics.csv").write_text(content)
    AppendingCSVLogger(tmp_path).log_metrics({"epoch": 0, "a": 4}, step=3)
    assert text(tmp_path) == "epoch,step,a\n0,3,4\n"


def test_only_the_first_rank_writes(tmp_path, monkeypatch):
    monkeypatch.setattr("lightning.pytorch.utilities.rank_zero_only.rank", 1)
    AppendingCSVLogger(tmp_path).log_metrics({"a": 1}, step=1)
    assert not (tmp_path / "metrics.csv").exists()


def test_hyper_parameters_are_not_written(tmp_path):
    logger = AppendingCSVLogger(tmp_path)
    logger.log_hyperparams({"width": 64})
    assert not list(tmp_path.iterdir())
    assert logger.save_dir == str(tmp_path)
    assert (logger.name, logger.version) == ("", "")


class Tiny(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    def training_step(self, batch, batch_idx):
        loss = self.layer(batch[0]).square().mean()
        self.log("train/loss", loss, on_step=True, on_epoch=True)
        return loss

    def validation_step(self, batch, batch_idx):
        self.log("val/loss", self.layer(batch[0]).mean())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(folder, epochs, checkpoint=None):
    logger = AppendingCSVLogger(folder)
    trainer = L.Trainer(
        max_epochs=epochs,
        logger=logger,
        log_every_n_steps=1,
        accelerator="cpu",
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
    )
    loader = DataLoader(TensorDataset(torch.arange(3.0)[:, None]))
    if checkpoint:
        logger.keep_until(torch.load(checkpoint, weights_only=True)["global_step"])
    trainer.fit(Tiny(), loader, loader, ckpt_path=checkpoint)
    return trainer


@pytest.mark.filterwarnings("ignore")
def test_a_resumed_training_shows_each_step_once(tmp_path):
    fit(tmp_path, epochs=1).save_checkpoint(tmp_path / "last.ckpt")
    before = text(tmp_path).splitlines()
    logger = AppendingCSVLogger(tmp_path)  # the run that died after its checkpoint
    for step in (3, 4):
        logger.log_metrics({"epoch": 1, "train/loss_step": 99.0}, step=step)
    fit(tmp_path, epochs=3, checkpoint=tmp_path / "last.ckpt")
    assert [(row["epoch"], row["step"]) for row in rows(tmp_path)] == [(str(i // 3), str(i)) for i in range(9)]
    assert text(tmp_path).splitlines()[:4] == before
    assert "99" not in [row["train/loss_step"] for row in rows(tmp_path)]
    assert all(row["train/loss_epoch"] and row["val/loss"] for row in rows(tmp_path)[2::3])


def test_a_trainer_that_begins_leaves_the_rows_of_an_earlier_process(tmp_path):
    AppendingCSVLogger(tmp_path).log_metrics({"epoch": 0, "a": 1}, step=0)
    before = text(tmp_path)
    again = AppendingCSVLogger(tmp_path)
    trainer = L.Trainer(logger=again, max_epochs=0, accelerator="cpu", enable_progress_bar=False)
    trainer.fit(Tiny(), DataLoader(TensorDataset(torch.ones(2, 1))))
    assert text(tmp_path) == before
