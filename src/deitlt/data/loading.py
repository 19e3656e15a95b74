"""From a data set to batches: what is made of an image in workers, what of a batch on its device, and the loaders.

Transforms reach a batch in one of two ways. A transform of single images runs in the workers; where it can, it ends
in uint8 there and normalises the whole batch on its device. A batch transform gets uint8 images on the device: kept
there, or sent by the workers, whole or, where images differ in size, as random crops.
"""

import gc
import logging
import multiprocessing
import os
import random
import signal
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache as once
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.random.mtrand import get_bit_generator, set_bit_generator  # as numpy.random has them, but typed
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate

from deitlt.data.images import HasFiles, ImageDataset, decode_crop, levels_of, located, path_of
from deitlt.data.samplers import SampleKey
from deitlt.errors import ConfigError
from deitlt.transforms.deferred import DeferredTransform, Images, deferred
from deitlt.types import IGNORED

ImageTransform = Callable[[Image.Image], Images]
Cache = Literal["auto"] | bool
Loader = DataLoader[tuple[Tensor, Tensor]]

_log = logging.getLogger(__name__)
CACHE_SHARE = 0.25  # of a GPU's memory, which cached images may take without being asked to
FREE_SHARE = 0.8  # of the memory that is free, which they may take in any case; training needs some, too
_AT_ONCE = 1024  # images
_DIFFER = (
    "data.cache_on_device=true needs images of one size, and these differ; type data.cache_on_device=false, "
    "which streams them."
)
# Lent to NumPy's global generator for a block: to save and restore that generator's own state takes 190 us of an
# image's time, and to make a generator as long.
_OWN = np.random.MT19937(0)


@runtime_checkable
class BatchTransformLike(Protocol):
    """A transform of a whole batch, made on its device, as `deitlt.transforms.BatchTransform`."""

    image_size: int

    def __call__(self, images: Tensor, rng: np.random.Generator, cropped: bool = False) -> Tensor:
        """images: [B, 3, H, W] uint8 -> [B, 3, image_size, image_size], normalised; `cropped` ones were cropped."""
        ...

    def worker_crop(self) -> Callable[..., Tensor | Image.Image]:
        """The random crop that it begins with, for images of differing sizes, each by itself."""
        ...


AnyTransform = ImageTransform | DeferredTransform | BatchTransformLike


class Delivery(ABC):
    """How training images reach the step.

    samples: what a `SampleKey` asks: (what travels, class id). uses_workers: whether there is work for workers.
    """

    samples: Dataset[Any]
    uses_workers = True

    def collate(self, samples: list[Any]) -> tuple[Any, Tensor]:
        """What travels of B images, and targets [B]."""
        images, labels = zip(*samples, strict=True)
        return self.stacked(list(images)), torch.tensor(labels)

    def stacked(self, images: list[Any]) -> Any:
        """What travels of B images as tensors."""
        return default_collate(images)

    @abstractmethod
    def finish(self, travelled: Any, device: torch.device, rng: np.random.Generator) -> Images:
        """The transformed images of a batch that has arrived on its device; `rng` is this batch's own."""


def make_delivery(
    dataset: ImageDataset, transform: AnyTransform, cache: Cache, device: torch.device, seed: int, rank: int
) -> Delivery:
    """Workers transform single images; a batch transform gets images cached on the device, or streamed ones.

    Args:
        dataset: the training images.
        transform: of one picture, or of a batch.
        cache: whether a batch transform's images are kept on the device, as in `should_cache`.
        device: where the batches go.
        seed: the run's.
        rank: this rank.

    Raises:
        ConfigError: images are to be cached, and cannot.
    """
    if not isinstance(transform, BatchTransformLike):
        return WorkerTransforms(dataset, transform, seed, rank)
    if should_cache(dataset, cache, device):
        return CachedImages(dataset, transform)
    return StreamedImages(dataset, transform, seed, rank)


class WorkerTransforms(Delivery):
    """Images that workers transform one by one."""

    def __init__(
        self, dataset: ImageDataset, transform: ImageTransform | DeferredTransform, seed: int, rank: int
    ) -> None:
        self.transform = deferred(transform)
        self.samples = TrainingImages(dataset, self.transform.in_worker, seed, rank)

    def stacked(self, images: list[Any]) -> Any:
        """What the transform gave, as a batch."""
        return self.transform.collate(images)

    def finish(self, travelled: Any, device: torch.device, rng: np.random.Generator) -> Images:
        """What the transform does on the device, if anything."""
        return self.transform.on_device(travelled)


class CachedImages(Delivery):
    """Images of one size that live on the device: their indices travel, and the batch is gathered there.

    They are decoded when the first batch comes, onto its device, and stay there.
    """

    uses_workers = False

    def __init__(self, dataset: ImageDataset, transform: BatchTransformLike) -> None:
        self.dataset, self.transform, self.samples = dataset, transform, Samples(dataset)
        self.levels: Tensor | None = None

    def finish(self, travelled: Tensor, device: torch.device, rng: np.random.Generator) -> Tensor:
        """indices: [B] -> those images, transformed."""
        if self.levels is None:
            self.levels = load_cache(self.dataset, device)
        return self.transform(self.levels.index_select(0, travelled), rng)


class StreamedImages(Delivery):
    """Images that workers send as uint8: arrays whole, files as random crops."""

    def __init__(self, dataset: ImageDataset, transform: BatchTransformLike, seed: int, rank: int) -> None:
        self.transform, self.cropped = transform, path_of(dataset) is not None
        self.samples = Crops(dataset, transform, seed, rank) if self.cropped else WholeImages(dataset)

    def finish(self, travelled: Tensor, device: torch.device, rng: np.random.Generator) -> Tensor:
        """images: [B, 3, H, W] uint8 -> transformed."""
        return self.transform(travelled, rng, cropped=self.cropped)


class Samples(Dataset[tuple[Any, int]]):
    """What travels of single images and their class ids, asked for by `SampleKey`: where they stand."""

    def __init__(self, dataset: ImageDataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: SampleKey) -> tuple[Any, int]:
        return self.of(key.index), int(self.dataset.labels[key.index])

    def of(self, index: int) -> Any:
        """What travels of an image."""
        return index


class WholeImages(Samples):
    """Whole images, uint8 [3, H, W]."""

    def of(self, index: int) -> Tensor:
        """Its levels."""
        return levels_of(self.dataset, index)


class TrainingImages(Samples):
    """Randomly transformed images.

    What is drawn depends on (seed, rank, epoch, index, repeat) alone: not on the number of workers, on what was drawn
    before, nor on where a run was resumed.

    Args:
        dataset: the images.
        transform: of an RGB picture; it may draw from Python's, NumPy's and torch's global generators.
        seed: the run's seed, 0 or more.
        rank: this rank, so that ranks which get copies of one image transform them differently.
    """

    def __init__(self, dataset: ImageDataset, transform: Callable[[Image.Image], Any], seed: int, rank: int) -> None:
        super().__init__(dataset)
        self.transform, self.seed, self.rank = transform, seed, rank

    def __getitem__(self, key: SampleKey) -> tuple[Any, int]:
        return self.__getitems__([key])[0]

    def __getitems__(self, keys: list[SampleKey]) -> list[tuple[Any, int]]:
        """A batch, for which the global generators are lent once."""
        with lent_rng() as seed:
            return [self._drawn(key, seed) for key in keys]

    def _drawn(self, key: SampleKey, seed: Callable[..., None]) -> tuple[Any, int]:
        seed(self.seed, self.rank, *key)
        return super().__getitem__(key)

    def of(self, index: int) -> Any:
        """Its picture, transformed."""
        return self.transform(self.dataset[index])


class Crops(TrainingImages):
    """Random crops of image files, uint8 [3, S, S]."""

    def __init__(self, dataset: ImageDataset, transform: BatchTransformLike, seed: int, rank: int) -> None:
        super().__init__(dataset, transform.worker_crop(), seed, rank)
        self.image_size = transform.image_size

    def of(self, index: int) -> Tensor:
        """Its crop."""
        return decode_crop(self.dataset, index, self.transform, self.image_size)


class EvaluationImages(Dataset[tuple[Images, int]]):
    """Images for evaluation, asked for by (index, counted).

    Args:
        dataset: the images.
        transform: makes the network's input [3, H, W] of an RGB picture, without chance.
    """

    def __init__(self, dataset: ImageDataset, transform: ImageTransform) -> None:
        self.dataset, self.transform = dataset, transform

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, item: tuple[int, bool]) -> tuple[Images, int]:
        """The image and its class id, or `IGNORED` where it only fills up a batch."""
        index, counted = item
        return self.transform(self.dataset[index]), int(self.dataset.labels[index]) if counted else IGNORED


def should_cache(dataset: ImageDataset, cache: Cache, device: torch.device) -> bool:
    """Whether a data set is to be kept on a device as uint8.

    Args:
        dataset: the images.
        cache: 'auto' keeps images that lie in memory anyway; files only on a GPU, where they are of one size and take
            at most a quarter of its memory. True keeps them; False never does. The choice depends on the kind of
            device, not on what is free there, so that a resumed run chooses alike, but where they cannot be kept.
        device: where they would live.

    Returns:
        Whether to keep them. Where too little memory is free they are streamed, and a warning says so.

    Raises:
        ConfigError: with True, images that differ in size.
    """
    are_files, on_gpu = path_of(dataset) is not None, device.type == "cuda"
    if cache is False or (cache == "auto" and are_files and not on_gpu):
        return False
    needed = levels_of(dataset, 0).numel() * len(dataset)
    if on_gpu and cache == "auto" and needed > CACHE_SHARE * torch.cuda.get_device_properties(device).total_memory:
        return False
    alike = not are_files or _of_one_size(dataset)
    if cache is True and not alike:
        raise ConfigError(_DIFFER)
    if alike and (free := free_memory(device)) is not None and needed > FREE_SHARE * free:
        whose = "the GPU" if on_gpu else "this machine"
        _warn_once(
            f"data: the images need {needed / 2**30:.2g} GiB, too much for what {whose} has free: they are streamed, "
            "as with data.cache_on_device=false"
        )
        return False
    return alike


@once
def _warn_once(line: str) -> None:
    """Say so on the terminal, of several stages once."""
    _log.warning(line)


def free_memory(device: torch.device) -> int | None:
    """Bytes that are free on a device, for a CPU those that Linux could make so; None on other systems."""
    if device.type == "cuda":
        gc.collect()  # the images of the stage before; what it leaves stays torch's own
        own = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + own
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")), None)


def load_cache(dataset: ImageDataset, device: torch.device) -> Tensor:
    """All images of a data set, decoded on all cores: [N, 3, H, W] uint8 on the device.

    Raises:
        ConfigError: they differ in size.
    """
    first = levels_of(dataset, 0)
    levels = torch.empty((len(dataset), *first.shape), dtype=torch.uint8, device=device)

    def fill(start: int) -> None:
        # Block by block, so that the host never holds all of what lives on a GPU.
        block = [levels_of(dataset, index) for index in range(start, min(start + _AT_ONCE, len(dataset)))]
        if any(image.shape != first.shape for image in block):
            raise ConfigError(_DIFFER)
        levels[start : start + len(block)] = torch.stack(block)

    with ThreadPoolExecutor(os.cpu_count()) as pool:  # threads suffice: decoders work outside Python's lock
        for _ in pool.map(fill, range(0, len(dataset), _AT_ONCE)):
            pass
    return levels


def _of_one_size(dataset: ImageDataset) -> bool:
    """Whether all image files have the first one's size; only their headers are read."""

    def size(index: int) -> tuple[int, int]:
        source, place = located(dataset, index)
        assert isinstance(source, HasFiles)
        with source.open(place) as file, Image.open(file) as image:
            return image.size

    first = size(0)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(dataset), _AT_ONCE):
            indices = range(start, min(start + _AT_ONCE, len(dataset)))
            if any(found != first for found in pool.map(size, indices)):
                return False
    return True


@contextmanager
def isolated_rng(*key: int) -> Iterator[None]:
    """Within the block, everything drawn depends on `key` alone; afterwards the global generators go on as before.

    Args:
        key: as `lent_rng`'s function takes it.
    """
    with lent_rng() as seed:
        seed(*key)
        yield


@contextmanager
def lent_rng() -> Iterator[Callable[..., None]]:
    """Within the block the global generators may be seeded; afterwards they go on as before.

    These are the three that timm's and torchvision's transforms draw from: Python's `random`, NumPy's global generator
    and torch's on the CPU. Those of devices are not touched. (Of a pair of Gaussians that NumPy's legacy functions draw
    at once, one that was not yet asked for is lost.)

    Yields:
        What seeds all three by a key, integers from 0, always equally many for one purpose.
    """
    before = random.getstate(), get_bit_generator(), torch.get_rng_state()
    assert before[1] is not _OWN, "blocks do not nest"
    set_bit_generator(_OWN)
    try:
        yield _seed
    finally:
        random.setstate(before[0])
        set_bit_generator(before[1])
        torch.set_rng_state(before[2])


def _seed(*key: int) -> None:
    words = np.random.SeedSequence(key).generate_state(9)
    random.seed(words[:4].tobytes())
    np.random.seed(words[4:8])
    torch.default_generator.manual_seed(int(words[8]))


def make_loader(
    samples: Dataset[Any],
    order: Sampler[Any],
    batch_size: int,
    workers: int,
    drop_last: bool = False,
    collate: Callable[[list[Any]], Any] | None = None,
) -> Loader:
    """Batches of samples in an order.

    Args:
        samples: what one item of the order asks for.
        order: of this rank.
        batch_size: images a batch.
        workers: processes that read, and stay for the next epoch; 0 reads in this one.
        drop_last: leave out a short last batch.
        collate: makes a batch of samples; None stacks them.
    """
    return DataLoader(
        samples,
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

    A scheduler signals every process of a job at once; a worker that ended by itself would be an error. Of its own
    process, which ends what is left of its workers by SIGTERM when it ends itself, the worker takes the signal; and it
    ends when that process is gone, of which torch's own watch knows nothing where a fork server stands between.

    Args:
        worker: its number, which does not matter here.
    """
    for ignored in (signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(ignored, signal.SIG_IGN)
    if hasattr(signal, "sigtimedwait"):  # macOS does not say who sent a signal
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    threading.Thread(target=_end_with_owner, daemon=True).start()


def _end_with_owner() -> None:
    owner = multiprocessing.parent_process()
    assert owner is not None, "a worker has a parent"
    while owner.is_alive():
        if not hasattr(signal, "sigtimedwait"):
            time.sleep(1)
        elif (told := signal.sigtimedwait({signal.SIGTERM}, 1)) is not None and told.si_pid == owner.pid:
            break
    os._exit(0)
