"""From a data set to batches: transforms of single images with random numbers of their own, and data loaders."""

import random
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.random.mtrand import get_bit_generator, set_bit_generator  # as numpy.random has them, but typed
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from deitlt.data.images import ImageDataset
from deitlt.data.samplers import SampleKey
from deitlt.types import IGNORED

Viewed = Tensor | tuple[Tensor, ...]  # one view [3, H, W], or several
View = Callable[[Image.Image], Viewed]


class TrainingImages(Dataset[tuple[Viewed, int]]):
    """Random views of a source's images, asked for by `SampleKey`.

    A view depends on (seed, rank, epoch, index, repeat) alone: not on the number of workers, on what was
    drawn before, nor on where a run was resumed.

    Args:
        source: the images.
        view: makes the network's input [3, H, W] of an RGB image, or several; it may draw from Python's,
            NumPy's and torch's global streams.
        seed: the run's seed, 0 or more.
        rank: this rank, so that ranks which get copies of one image view them differently.
    """

    def __init__(self, source: ImageDataset, view: View, seed: int, rank: int) -> None:
        self.source = source
        self.view = view
        self.seed = seed
        self.rank = rank

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, key: SampleKey) -> tuple[Viewed, int]:
        image = self.source[key.index]
        with isolated_rng(self.seed, self.rank, *key):
            view = self.view(image)
        return view, int(self.source.labels[key.index])


class EvaluationImages(Dataset[tuple[Viewed, int]]):
    """A source's images for evaluation, asked for by (index, counted).

    Args:
        source: the images.
        view: makes the network's input [3, H, W] of an RGB image, without chance.
    """

    def __init__(self, source: ImageDataset, view: View) -> None:
        self.source = source
        self.view = view

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, item: tuple[int, bool]) -> tuple[Viewed, int]:
        """The image and its class id, or `IGNORED` where it only fills up a batch."""
        index, counted = item
        return self.view(self.source[index]), int(self.source.labels[index]) if counted else IGNORED


# Lent to NumPy's global stream for a block: to save and restore that stream's own state takes 190 us of an image's
# time, and to make a generator as long.
_OWN = np.random.MT19937(0)


@contextmanager
def isolated_rng(*key: int) -> Iterator[None]:
    """Within the block, everything drawn depends on `key` alone; afterwards the streams go on as before.

    It covers the three streams that timm's and torchvision's transforms draw from: Python's `random`,
    NumPy's global stream and torch's CPU stream. Streams on devices are not touched. (Of a pair of Gaussians that
    NumPy's legacy functions draw at once, one that was not yet asked for is lost.)

    Args:
        key: integers from 0, always equally many for one purpose.
    """
    before = random.getstate(), get_bit_generator(), torch.get_rng_state()
    assert before[1] is not _OWN, "blocks do not nest"
    words = np.random.SeedSequence(key).generate_state(9)
    try:
        random.seed(words[:4].tobytes())
        set_bit_generator(_OWN)
        np.random.seed(words[4:8])
        torch.default_generator.manual_seed(int(words[8]))
        yield
    finally:
        random.setstate(before[0])
        set_bit_generator(before[1])
        torch.set_rng_state(before[2])


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
