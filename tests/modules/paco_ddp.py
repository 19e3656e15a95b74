"""Run by test_paco_ddp: a PaCo teacher on two gloo processes; writes each rank's network."""

import sys
from pathlib import Path

import lightning as L
import torch
from lightning.pytorch.strategies import DDPStrategy
from paco_runs import pairs, small_module
from torch.utils.data import DataLoader

from deitlt.callbacks import SharpnessAwareMinimization
from deitlt.types import DataInfo

INFO = DataInfo(4, (40, 20, 8, 2), ("ant", "bee", "cat", "dog"), {"head": (0,), "mid": (1, 2), "tail": (3,)})


class Sharded(L.LightningDataModule):
    """Rank r's own batches."""

    def train_dataloader(self):
        return DataLoader(pairs(seed=self.trainer.global_rank), batch_size=None)


def run(folder, accumulate, rho):
    module = small_module(INFO)
    trainer = L.Trainer(
        accelerator="cpu",
        devices=2,
        strategy=DDPStrategy(start_method="fork", process_group_backend="gloo"),
        max_epochs=1,
        accumulate_grad_batches=accumulate,
        callbacks=[SharpnessAwareMinimization(rho, scope="global"), Saving(folder / f"{accumulate}.pt")],
        limit_val_batches=0,
        use_distributed_sampler=False,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, datamodule=Sharded())


class Saving(L.Callback):
    """Each rank's network: the queue must be the same on all of them."""

    def __init__(self, path):
        self.path = path

    def on_fit_end(self, trainer, pl_module):
        torch.save(pl_module.network.state_dict(), f"{self.path}.{trainer.global_rank}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    for accumulate in (1, 2):
        run(Path(sys.argv[1]), accumulate, rho=0.3)
