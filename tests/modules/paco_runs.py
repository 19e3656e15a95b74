"""A small PaCo teacher, its batches, and its training written out by hand to compare with.

Run as a program, it trains on two gloo processes and writes each rank's network into the folder that it is given.
"""

import sys
from pathlib import Path

import lightning as L
import torch
from lightning.pytorch.strategies import DDPStrategy
from torch.utils.data import DataLoader

from deitlt.callbacks import SharpnessAwareMinimization
from deitlt.losses import PaCoLoss
from deitlt.models import create_paco_teacher
from deitlt.modules import PaCoTeacherModule
from deitlt.optim import ascend, restore
from deitlt.types import Batch, DataInfo

COUNTS = (40, 20, 8, 2)
RATE = 0.05


def sgd(network):
    return torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=RATE, momentum=0.9)


def small_network(queue_size=16):
    torch.manual_seed(0)
    return create_paco_teacher(4, "cifar_resnet8", dim=5, queue_size=queue_size, momentum=0.9).double()


def small_loss():
    return PaCoLoss(COUNTS, alpha=0.2, temperature=0.2)


def small_module(info, queue_size=16):
    return PaCoTeacherModule(small_network(queue_size), small_loss(), info, sgd, lambda time: RATE)


def pairs(batches=6, images=4, seed=0):
    """Complete batches of two crops of each image, all first ones before all second ones."""
    stream = torch.Generator().manual_seed(seed)
    crops = torch.randn(batches, 2 * images, 3, 8, 8, generator=stream, dtype=torch.float64)
    targets = torch.randint(4, (batches, images), generator=stream)
    return [Batch(x, y.repeat(2), None) for x, y in zip(crops, targets, strict=True)]


def keys_of(network, batch):
    half = len(batch.images) // 2
    return network.keys(batch.images[half:]), batch.targets[half:]


def loss_of(network, batch, keys):
    queries, logits = network.queries(batch.images[: len(batch.images) // 2])
    labels = torch.cat([batch.targets, network.queue_labels])
    return small_loss()(torch.cat([queries, keys, network.queue]), labels, logits)


def by_hand(ranks, accumulate=1, rho=0.0):
    """PaCo's training with accumulation and SAM; `ranks`: each rank's batches. The network after it."""
    network = small_network()
    optimizer = sgd(network)

    def gradient(windows, keys):
        optimizer.zero_grad()
        for window, rows in zip(windows, keys, strict=True):
            for batch, (row, _) in zip(window, rows, strict=True):
                (loss_of(network, batch, row) / accumulate / len(ranks)).backward()

    for start in range(0, len(ranks[0]), accumulate):
        windows = [batches[start : start + accumulate] for batches in ranks]
        network.move_key_encoder()
        keys = [[keys_of(network, batch) for batch in window] for window in windows]
        gradient(windows, keys)
        if rho:
            statistics = {name: value.clone() for name, value in network.named_buffers()}
            moved = ascend([p for p in network.parameters() if p.requires_grad], rho)
            gradient(windows, keys)
            restore(moved)
            for name, value in network.named_buffers():
                value.copy_(statistics[name])
        optimizer.step()
        for rows, labels in [pair for window in keys for pair in window]:
            network.enqueue(rows, labels)
    return network


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
