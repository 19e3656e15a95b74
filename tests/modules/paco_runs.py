"""A small PaCo teacher, its batches, and its training written out by hand to compare with."""

import torch

from deitlt.losses import PaCoLoss
from deitlt.models import create_paco_teacher
from deitlt.modules import PaCoTeacherModule
from deitlt.optim import ascend, restore
from deitlt.types import Batch

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
    """Complete batches of two views, view after view."""
    stream = torch.Generator().manual_seed(seed)
    views = torch.randn(batches, 2 * images, 3, 8, 8, generator=stream, dtype=torch.float64)
    targets = torch.randint(4, (batches, images), generator=stream)
    return [Batch(x, y.repeat(2), None) for x, y in zip(views, targets, strict=True)]


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
