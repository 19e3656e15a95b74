"""A fixed choice of a split's images, as evenly over the classes as can be, in the evaluation view."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader

from deitlt.data.dataset import EvaluatedImages
from deitlt.data.module import LongTailDataModule
from deitlt.data.sources import ImageSource

_CHOICE = 0  # names the stream


def choose_evenly(labels: NDArray[np.int64], images: int, seed: int) -> NDArray[np.int64]:
    """Images at random, as evenly over the classes as their numbers allow: no class's second before each one's first.

    Args:
        labels: [N] class ids.
        images: how many at most, M.
        seed: of the choice.

    Returns:
        [min(M, N)] positions, in random order.
    """
    assert images >= 1
    stream = np.random.default_rng((seed, _CHOICE))
    order = stream.permutation(len(labels))
    by_class = order[np.argsort(labels[order], kind="stable")]
    sizes = np.bincount(labels)
    turn = np.arange(len(labels)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    # Classes take turns in random order, so that the last turn, which may be cut short, favours none.
    rank = stream.permutation(len(sizes))[labels[by_class]]
    return stream.permutation(by_class[np.lexsort((rank, turn))][:images])


def evaluated_batches(
    datamodule: LongTailDataModule,
    source: ImageSource,
    chosen: NDArray[np.int64],
    batch_size: int,
    num_workers: int = 0,
) -> "DataLoader[tuple[Tensor, Tensor]]":
    """The chosen images of a split in the evaluation view.

    Args:
        datamodule: whose view it is.
        source: the split.
        chosen: [n] positions.
        batch_size: images at once.
        num_workers: processes that read images; 0 reads in this one.

    Returns:
        Batches of images [B, 3, H, W], normalised, and class ids [B]; to iterate them leaves torch's stream alone.
    """
    view = datamodule.evaluation(datamodule.image_size, datamodule.normalisation)
    images: Any = EvaluatedImages(source, view)
    return DataLoader(
        images,
        batch_size=batch_size,
        sampler=[(int(position), True) for position in chosen],
        num_workers=num_workers,
        generator=torch.Generator(),  # else the loader would draw its seed from the process's stream
    )
