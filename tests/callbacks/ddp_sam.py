"""Run by test_sam_ddp: SAM on two gloo processes; writes the weights after each update."""

import sys
from pathlib import Path

import lightning as L
import torch
from lightning.pytorch.strategies import DDPStrategy
from small_runs import Classifier, golden_data, golden_network, sam
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset


class Sharded(L.LightningDataModule):
    """Rank r gets every second image, in their order."""

    def __init__(self, batch_size):
        super().__init__()
        self.batch_size = batch_size

    def train_dataloader(self):
        data = TensorDataset(*golden_data())
        order = DistributedSampler(data, 2, self.trainer.global_rank, shuffle=False)
        return DataLoader(data, batch_size=self.batch_size, sampler=order)


def run(folder, scope, accumulate):
    module = Classifier(golden_network())
    trainer = L.Trainer(
        accelerator="cpu",
        devices=2,
        strategy=DDPStrategy(start_method="fork", process_group_backend="gloo"),
        max_epochs=1,
        accumulate_grad_batches=accumulate,
        callbacks=[sam(0.5, scope=scope), Saving(folder / f"{scope}{accumulate}.pt")],
        use_distributed_sampler=False,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, datamodule=Sharded(16 // accumulate))


class Saving(L.Callback):
    """Each rank's weights: after an update all ranks must have the same."""

    def __init__(self, path):
        self.path = path

    def on_fit_end(self, trainer, pl_module):
        torch.save(torch.stack(pl_module.updates), f"{self.path}.{trainer.global_rank}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    for scope in ("rank", "global"):
        for accumulate in (1, 2):
            run(Path(sys.argv[1]), scope, accumulate)
