"""The order in which images are shown: repeated augmentation, shuffling, balanced classes, evaluation.

Every sampler gives each rank equally many items, as distributed training needs it, and takes its order from
the seed and the epoch alone.
"""

import math
from array import array
from collections.abc import Iterator, Sized
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from torch.utils.data import Sampler

from deitlt.data.images import ImageDataset

BLOCK = 256  # repeated augmentation's epoch is cut to whole blocks of so many images
_AT_ONCE = 2**16  # places in an epoch's order that are looked up together


class EpochSampler(Sampler[int]):
    """Every image `num_repeats` times an epoch, in an order of its own each epoch.

    The order is repeated image by image, filled up from its front until the ranks can share it evenly, and
    dealt out: rank r gets items r, r + num_replicas, ... So the copies of an image go to different ranks.

    Args:
        data: anything that has a length, N.
        num_replicas: number of ranks; None: torch.distributed's, or one where it was not begun.
        rank: this rank; None: as above.
        shuffle: False keeps the images in ascending order.
        num_repeats: how often an image comes, over all ranks.
        seed: mixed with the epoch; with 0 the epoch alone seeds the order.
    """

    def __init__(
        self,
        data: Sized,
        num_replicas: int | None = None,
        rank: int | None = None,
        shuffle: bool = True,
        num_repeats: int = 1,
        seed: int = 0,
    ) -> None:
        is_shared = dist.is_available() and dist.is_initialized()
        self.data = data
        self.num_replicas = (dist.get_world_size() if is_shared else 1) if num_replicas is None else num_replicas
        self.rank = (dist.get_rank() if is_shared else 0) if rank is None else rank
        assert 0 <= self.rank < self.num_replicas
        self.shuffle = shuffle
        self.num_repeats = num_repeats
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Chooses the order of the next pass; the loop calls it before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return math.ceil(len(self.data) * self.num_repeats / self.num_replicas)

    def __iter__(self) -> Iterator[int]:
        order = self._order()
        images = len(order)
        for first in range(0, len(self), _AT_ONCE):  # in parts: ten million numbers are half a gigabyte as objects
            places = self.rank + self.num_replicas * np.arange(first, min(first + _AT_ONCE, len(self)))
            # An order that is too short for all ranks goes on from its front.
            yield from order[places % (images * self.num_repeats) // self.num_repeats].tolist()

    def _order(self) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        """The epoch's order of the images, [N], equal on all ranks."""
        if not self.shuffle:
            return np.arange(len(self.data))
        generator = torch.Generator().manual_seed(_order_seed(self.seed, self.epoch))
        return torch.randperm(len(self.data), generator=generator).numpy()


class RepeatedAugmentationSampler(EpochSampler):
    """Repeated augmentation (Hoffer et al., CVPR 2020) as DeiT has it: a third of the images, thrice.

    All ranks together show floor(N / 256) * 256 items an epoch, so with three repeats about a third of the
    images, another third each epoch, and none at all where N < 256.
    """

    def __init__(
        self,
        data: Sized,
        num_replicas: int | None = None,
        rank: int | None = None,
        shuffle: bool = True,
        num_repeats: int = 3,
        seed: int = 0,
    ) -> None:
        super().__init__(data, num_replicas, rank, shuffle, num_repeats, seed)

    def __len__(self) -> int:
        return len(self.data) // BLOCK * BLOCK // self.num_replicas


class FullRepeatedAugmentationSampler(EpochSampler):
    """Repeated augmentation that shows every image each epoch, `num_repeats` times: tails lose no image."""

    def __init__(
        self,
        data: Sized,
        num_replicas: int | None = None,
        rank: int | None = None,
        shuffle: bool = True,
        num_repeats: int = 3,
        seed: int = 0,
    ) -> None:
        super().__init__(data, num_replicas, rank, shuffle, num_repeats, seed)


class ShuffledSampler(EpochSampler):
    """Every image once an epoch, shuffled."""

    def __init__(self, data: Sized, num_replicas: int | None = None, rank: int | None = None, seed: int = 0) -> None:
        super().__init__(data, num_replicas, rank, seed=seed)


class SampleKey(NamedTuple):
    """One showing of an image, and all that its augmentation may depend on beside seed and rank.

    repeat: how often this image came before in this rank's epoch.
    """

    epoch: int
    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody calls
    repeat: int


class KeyedSampler(Sampler[SampleKey]):
    """Tells the data set the epoch and the repeat of each image, which it cannot know in a worker.

    Args:
        sampler: says which images come, and in which order.
    """

    def __init__(self, sampler: EpochSampler) -> None:
        self.sampler = sampler

    def set_epoch(self, epoch: int) -> None:
        """Chooses the order of the next pass."""
        self.sampler.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[SampleKey]:
        epoch = self.sampler.epoch
        seen = array("I", bytes(4 * len(self.sampler.data)))  # 4 bytes an image; a Counter takes a hundred
        for index in self.sampler:
            yield SampleKey(epoch, index, seen[index])
            seen[index] += 1


class EvaluationSampler(Sampler[tuple[int, bool]]):
    """Every image once over all ranks: yields (index, counted).

    Rank r gets images r, r + num_replicas, ... Where the ranks cannot share the images evenly, some get one
    more, which fills up their last batch and is not counted.

    Args:
        data: anything that has a length.
        num_replicas: number of ranks; None: torch.distributed's, or one where it was not begun.
        rank: this rank; None: as above.
    """

    def __init__(self, data: Sized, num_replicas: int, rank: int) -> None:
        assert 0 <= rank < num_replicas
        self.data = data
        self.num_replicas = num_replicas
        self.rank = rank

    def __len__(self) -> int:
        return math.ceil(len(self.data) / self.num_replicas)

    def __iter__(self) -> Iterator[tuple[int, bool]]:
        n = len(self.data)
        for position in range(self.rank, len(self) * self.num_replicas, self.num_replicas):
            yield position % n, position < n


def _order_seed(seed: int, epoch: int) -> int:
    """A generator's seed: the epoch itself for seed 0, as DeiT has it; torch uses 32 bits of it."""
    return epoch if seed == 0 else int(np.random.SeedSequence((seed, epoch)).generate_state(1)[0])


class ClassBalancedSampler(EpochSampler):
    """Draws as many images an epoch as there are, with replacement, class c with probability n_c^q / sum_j n_j^q.

    Kang et al., "Decoupling Representation and Classifier for Long-Tailed Recognition", ICLR 2020, equation 1:
    q = 0 shows all classes equally often, q = 1/2 by the square root of their counts, q = 1 as they are. Within
    its class each image is as likely as any other. The draws are dealt out to the ranks as `EpochSampler`
    deals its order.

    Args:
        data: the images, with the class of each in their `labels`, or the class ids alone, [N].
        num_replicas: number of ranks; None: torch.distributed's, or one where it was not begun.
        rank: this rank; None: as above.
        shuffle: False puts the draws into ascending order.
        seed: mixed with the epoch.
        power: q, from 0 to 1.
    """

    def __init__(
        self,
        data: ImageDataset | npt.NDArray[np.int64],
        num_replicas: int | None = None,
        rank: int | None = None,
        shuffle: bool = True,
        seed: int = 0,
        power: float = 0.0,
    ) -> None:
        super().__init__(data, num_replicas, rank, shuffle, seed=seed)
        labels = data if isinstance(data, np.ndarray) else data.labels
        self.probabilities = image_probabilities(labels, power)

    def _order(self) -> npt.NDArray[np.int64]:
        """The epoch's draws, [N] with repeats, equal on all ranks."""
        stream = np.random.default_rng((self.seed, self.epoch))
        n = len(self.probabilities)
        draws = stream.choice(n, size=n, p=self.probabilities)
        return draws if self.shuffle else np.sort(draws)


def image_probabilities(labels: npt.NDArray[np.int64], power: float) -> npt.NDArray[np.float64]:
    """The probability of each image, [N]: its class's n_c^q / sum_j n_j^q, shared by the class's n_c images.

    Args:
        labels: [N] class ids; a class without an image takes no part.
        power: q.
    """
    counts = np.bincount(labels).astype(np.float64)
    shares = counts[labels] ** (power - 1)
    normalised: npt.NDArray[np.float64] = shares / shares.sum()
    return normalised


def choose_evenly(labels: npt.NDArray[np.int64], images: int, seed: int) -> npt.NDArray[np.int64]:
    """Images at random, as evenly over the classes as their numbers allow: no class's second before each one's first.

    Args:
        labels: [N] class ids.
        images: how many at most, M.
        seed: of the choice.

    Returns:
        [min(M, N)] positions, in random order.
    """
    assert images >= 1
    stream = np.random.default_rng((seed, 0))
    order = stream.permutation(len(labels))
    by_class = order[np.argsort(labels[order], kind="stable")]
    sizes = np.bincount(labels)
    turn = np.arange(len(labels)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    # Classes take turns in random order, so that the last turn, which may be cut short, favours none.
    rank = stream.permutation(len(sizes))[labels[by_class]]
    return stream.permutation(by_class[np.lexsort((rank, turn))][:images])
