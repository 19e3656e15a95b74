"""Data loaders, and what their worker processes do before their first image."""

import signal
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

Loader = DataLoader[tuple[Tensor, Tensor]]


def make_loader(
    images: Dataset[Any],
    order: Sampler[Any],
    batch_size: int,
    workers: int,
    drop_last: bool = False,
    collate: Callable[[list[Any]], Any] | None = None,
) -> Loader:
    """Batches of images in an order.

    Args:
        images: what one item of the order asks for.
        order: of this rank.
        batch_size: images a batch.
        workers: processes that read, and stay for the next epoch; 0 reads in this one.
        drop_last: leave out a short last batch.
        collate: makes a batch of items; None stacks them.
    """
    return DataLoader(
        images,
        batch_size=batch_size,
        sampler=order,
        drop_last=drop_last,
        num_workers=workers,
        collate_fn=collate,
        persistent_workers=workers > 0,
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=outlive_signals,
    )


def outlive_signals(worker: int) -> None:
    """Have a worker outlive the signals that stop a run: its process decides when to end, after its checkpoint.

    A scheduler signals every process of a job at once; a worker that ended by itself would be an error.

    Args:
        worker: its number, which does not matter here.
    """
    for ignored in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(ignored, signal.SIG_IGN)
