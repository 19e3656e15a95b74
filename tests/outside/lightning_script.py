"""Somebody's Lightning script with parts of deitlt, on two ranks: python lightning_script.py FOLDER."""

import json
import sys
from pathlib import Path

import lightning as L
import torch
from lightning.pytorch.strategies import DDPStrategy
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, Subset, TensorDataset
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy

from deitlt.callbacks import DeferredReweighting, SharpnessAwareMinimization
from deitlt.data import ClassBalancedSampler
from deitlt.longtail import frequency_groups
from deitlt.losses import BalancedSoftmaxLoss
from deitlt.metrics import GroupedAccuracy

COUNTS = [100, 80, 60, 50, 40, 30, 20, 10, 5, 3]
TESTED = 501  # images: odd, so that the ranks have not equally many


class Classifier(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.network = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
        self.loss = BalancedSoftmaxLoss(COUNTS)
        grouped = GroupedAccuracy(10, frequency_groups(COUNTS))
        self.metrics = MetricCollection({"groups": grouped, "macro": MulticlassAccuracy(10)}, prefix="val/")
        self.answers = []

    def reweight(self, weights):
        self.loss.reweight(weights)

    def training_step(self, batch, batch_idx):
        return self.loss(self.network(batch[0]), batch[1])

    def validation_step(self, batch, batch_idx):
        logits = self.network(batch[0])
        self.metrics.update(logits, batch[1])
        self.answers += [*zip(batch[1].tolist(), logits.argmax(1).tolist(), strict=True)]

    def on_validation_epoch_end(self):
        found = {name: float(value) for name, value in self.metrics.compute().items()}
        Path(sys.argv[1], f"{self.global_rank}.json").write_text(json.dumps({"found": found, "answers": self.answers}))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)


class Digits(L.LightningDataModule):
    def setup(self, stage):
        images, labels = (torch.tensor(found) for found in load_digits(return_X_y=True))
        images = images.float() / 16
        self.tested = TensorDataset(images[:TESTED], labels[:TESTED])
        chosen = torch.cat([(labels[TESTED:] == c).nonzero().flatten()[:count] for c, count in enumerate(COUNTS)])
        self.trained = TensorDataset(images[TESTED:][chosen], labels[TESTED:][chosen])

    def train_dataloader(self):
        sampler = ClassBalancedSampler(self.trained.tensors[1].numpy(), power=0.5)  # shared out by torch.distributed
        return DataLoader(self.trained, batch_size=16, sampler=sampler)

    def val_dataloader(self):
        rank = self.trainer.global_rank
        shared = Subset(self.tested, range(rank, TESTED, 2))
        return DataLoader(shared, batch_size=64)


if __name__ == "__main__":
    ddp = DDPStrategy(start_method="fork", process_group_backend="gloo")
    callbacks = [SharpnessAwareMinimization(rho=0.05), DeferredReweighting(start_epoch=24, counts=COUNTS)]
    off = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "num_sanity_val_steps": 0}
    two = {"accelerator": "cpu", "devices": 2, "strategy": ddp, "use_distributed_sampler": False}
    L.Trainer(max_epochs=30, callbacks=callbacks, check_val_every_n_epoch=30, **two, **off).fit(Classifier(), Digits())
