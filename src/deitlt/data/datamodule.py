"""The LightningDataModule: opens a data set, makes it long-tailed, and hands out batches."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import lightning as L
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader

from deitlt.data.datasets import DataRequest, DatasetSpec, DataSplits, get_dataset, title_of
from deitlt.data.file_checks import FileCheck, SeenFiles
from deitlt.data.images import ImageDataset, drop
from deitlt.data.loading import (
    AnyTransform,
    BatchTransformLike,
    Cache,
    Delivery,
    EvaluationImages,
    ImageTransform,
    Loader,
    make_delivery,
    make_loader,
    should_cache,
)
from deitlt.data.samplers import EpochSampler, EvaluationSampler, KeyedSampler, ShuffledSampler
from deitlt.data.splits import LongTailSplits, SplitOptions, long_tailed, sort_classes, which_images
from deitlt.errors import ConfigError
from deitlt.transforms import IMAGENET, Mixup, evaluation_transform, weak_transform
from deitlt.transforms.deferred import Images
from deitlt.transforms.teacher_input import TeacherInputs, TeacherSees, training_batch
from deitlt.types import Batch, DataInfo, ImageBatch, Normalisation

TRANSFORMS = 1  # names the generator of a batch's transforms; that of its mixing has no name


@dataclass(frozen=True)
class Transforms:
    """What is made of the images.

    Args:
        train: (image_size, normalisation) -> transform of one picture, or of a batch on its device.
        evaluation: the same for evaluation, of one picture.
        mixing: num_classes -> `Mixup`; None never mixes.
        image_size: pixels a side; None for the data set's own.
        statistics: normalise with ImageNet's mean and deviation, or with the data set's 'own'.
    """

    train: Callable[[int, Normalisation], AnyTransform] = weak_transform
    evaluation: Callable[[int, Normalisation], ImageTransform] = evaluation_transform
    mixing: Callable[[int], Mixup] | None = None
    image_size: int | None = None
    statistics: Literal["imagenet", "own"] = "imagenet"


@dataclass(frozen=True)
class LoaderOptions:
    """How images become batches.

    Args:
        batch_size: images a device and micro-batch.
        eval_batch_size: images a device and evaluation batch.
        num_workers: processes that read images; 0 reads in the training process.
        sampler: (data, num_replicas, rank, seed=...) -> order of the training images.
        drop_last: leave out an epoch's short last batch, unless it is the only one; one of a single image, which
            BatchNorm may be unable to normalise, is left out in any case.
        cache_on_device: for batch transforms: whether the images live on the device (see `should_cache`).
    """

    batch_size: int = 128
    eval_batch_size: int = 250
    num_workers: int = 0
    sampler: Callable[..., EpochSampler] = ShuffledSampler
    drop_last: bool = False
    cache_on_device: Cache = "auto"


class LongTailDataModule(L.LightningDataModule):
    """One stage's data: long-tailed training batches, and splits to evaluate on.

    What workers draw depends on (seed, rank, epoch, index), what is drawn for a batch on (seed, rank, epoch, step);
    so a resumed run repeats it.

    Args:
        data: which data set; a name alone for one without files.
        split: how it is made long-tailed, and what is held out.
        transforms: what is made of the images.
        loader: how they become batches.
        file_check: what is done about missing and broken files before training.
        watched: splits that are evaluated while training, of 'val' and 'test'.
        seed: the run's.
        teacher_input: the student's images [B, 3, H, W] -> the teacher's [B, 3, h, w]; None without a teacher.
        teacher_sees: of several crops of an image, which the teacher labels: 'global' or 'both'.
    """

    def __init__(
        self,
        data: DataRequest | str = "digits",
        split: SplitOptions | None = None,
        transforms: Transforms | None = None,
        loader: LoaderOptions | None = None,
        file_check: FileCheck | None = None,
        watched: Sequence[str] = ("val",),
        seed: int = 0,
        teacher_input: TeacherInputs | None = None,
        teacher_sees: TeacherSees = "both",
    ) -> None:
        super().__init__()
        self.data = DataRequest(name=data, download=True) if isinstance(data, str) else data
        self.split, self.transforms = split or SplitOptions(), transforms or Transforms()
        self.loader, self.file_check = loader or LoaderOptions(), file_check or FileCheck()
        self.spec: DatasetSpec = get_dataset(self.data.name)
        self.image_size = self.transforms.image_size or self.spec.image_size
        self.normalisation = IMAGENET if self.transforms.statistics == "imagenet" else self.spec.normalisation
        self.mixing_factory, self.mixing_on = self.transforms.mixing, True
        self.teacher_input, self.teacher_sees = teacher_input, teacher_sees
        self.watched_names = tuple(watched)
        self.seed = seed
        self._splits: LongTailSplits | None = None
        self._delivery: Delivery | None = None

    @classmethod
    def from_keys(cls, name: str = "digits", **values: Any) -> "LongTailDataModule":
        """From flat keys, as the configuration has them.

        Args:
            name: the data set's.
            values: fields of `DataRequest`, `SplitOptions`, `Transforms`, `LoaderOptions` and `FileCheck`, and
                arguments of this class.
        """
        values = {"download": True, **values, "name": name}
        groups = {group: kind(**_taken(values, kind)) for group, kind in GROUPS.items()}
        return cls(**groups, **values)

    def setup(self, stage: str | None = None) -> None:
        """Open the data, once, however often Lightning asks."""
        if self._splits is None:
            self._splits = long_tailed(self._read(), self.split, self.spec.group_cuts)

    def look_at_files(self) -> SeenFiles:
        """Look for every image file, and decode each once, before a long training does; what was decoded.

        Raises:
            DataError: files are missing.
        """
        found = (self.splits.train, self.splits.val, self.splits.test)
        used = [source for source in found if source is not None]
        return self.file_check.look(used, self._read, self.data.root.expanduser())

    def check_files(self, listing: Path = Path("broken.txt")) -> list[str]:
        """Look for every image file, and decode each once.

        Args:
            listing: the file to write the names of broken ones to, where they are too many for a sentence.

        Returns:
            Files to leave out, where on_broken='skip' allows it.

        Raises:
            DataError: files are missing, or one is broken where on_broken='error'.
        """
        return self.file_check.left_out(self.look_at_files(), listing)

    @property
    def splits(self) -> LongTailSplits:
        """The opened data."""
        self.setup()
        assert self._splits is not None
        return self._splits

    @property
    def title(self) -> str:
        """What the data are called."""
        return title_of(vars(self.data))

    @property
    def info(self) -> DataInfo:
        """What the training data are."""
        return self.splits.info

    @cached_property
    def images(self) -> dict[str, list[str]]:
        """Which images each split has (see `which_images`), by which changed data are noticed."""
        splits = {"training": self.splits.train, "validation": self.splits.val, "test": self.splits.test}
        root, classes = self.data.root.expanduser(), self.info.num_classes
        return {name: which_images(source, classes, root) for name, source in splits.items() if source is not None}

    @property
    def ranks(self) -> tuple[int, int]:
        """How many ranks train, and which of them this is; (1, 0) where no trainer is attached."""
        return (1, 0) if self.trainer is None else (self.trainer.world_size, self.trainer.global_rank)

    @property
    def watched(self) -> tuple[str, ...]:
        """The splits that `val_dataloader` gives, in its order: those asked for that exist."""
        return tuple(n for n in self.watched_names if n == "test" or self.splits.val is not None)

    def train_dataloader(self) -> Loader:
        """Training images in the epoch's order, from the epoch at which training begins or goes on."""
        (world, rank), options, train = self.ranks, self.loader, self.splits.train
        order = options.sampler(train, num_replicas=world, rank=rank, seed=self.seed)
        # With workers the first epoch's order is fetched before the loop calls set_epoch, and a resumed run's
        # `current_epoch` is brought up to date only after that.
        loop = None if self.trainer is None else self.trainer.fit_loop
        order.set_epoch(0 if loop is None else loop.epoch_progress.current.processed)  # type: ignore[attr-defined]
        if len(order) == 0:
            raise ConfigError(
                f"Repeated augmentation shows no image of a training set of {len(train)}; "
                "type data/sampler=repeated_full, which shows every one, or data/sampler=shuffled."
            )
        delivery = self._delivery = self.delivery()
        is_single = len(order) % options.batch_size == 1
        drop_last = (options.drop_last or is_single) and len(order) >= options.batch_size
        workers = options.num_workers if delivery.uses_workers else 0
        keys = KeyedSampler(order)
        return make_loader(delivery.samples, keys, options.batch_size, workers, drop_last, delivery.collate)

    def train_transform(self) -> AnyTransform:
        """The training transform, at the size and with the statistics of this data module."""
        return self.transforms.train(self.image_size, self.normalisation)

    def evaluation_transform(self) -> ImageTransform:
        """The transform for evaluation, of one picture."""
        return self.transforms.evaluation(self.image_size, self.normalisation)

    def delivery(self) -> Delivery:
        """How this rank's training images reach the step."""
        device = torch.device("cpu") if self.trainer is None else self.trainer.strategy.root_device
        cache = self.loader.cache_on_device
        return make_delivery(self.splits.train, self.train_transform(), cache, device, self.seed, self.ranks[1])

    def check_cache(self, device: torch.device) -> None:
        """Raise ConfigError where images are to be kept on a device and cannot, before a training begins."""
        if isinstance(self.train_transform(), BatchTransformLike):
            should_cache(self.splits.train, self.loader.cache_on_device, device)

    def val_dataloader(self) -> list[Loader]:
        """The watched splits."""
        sources = {"val": self.splits.val, "test": self.splits.test}
        return [self._evaluated(source) for name in self.watched if (source := sources[name]) is not None]

    def whole_val_dataloader(self) -> Loader | None:
        """All of the validation split on every rank, to fit rules on; None where there is none."""
        return None if self.splits.val is None else self._evaluated(self.splits.val, shared=False)

    def test_dataloader(self) -> Loader:
        """The test set, each image counted once however many ranks share it."""
        return self._evaluated(self.splits.test)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> ImageBatch | Batch:
        """Complete a batch on its device while training: transform it, mix it, and make the teacher's input."""
        images, targets = batch
        if self.trainer is None or not self.trainer.training:
            return ImageBatch(images, targets)
        transformed = self.transformed(images, targets.device, self._batch_rng(TRANSFORMS))
        return self.complete(transformed, targets, self._batch_rng())

    def transformed(self, travelled: Any, device: torch.device, rng: np.random.Generator) -> Images:
        """What the training loader gave, on its device -> [B, 3, H, W], normalised, or one such tensor a view."""
        assert self._delivery is not None, "call train_dataloader first"
        return self._delivery.finish(travelled, device, rng)

    def complete(self, images: Tensor | Sequence[Tensor], targets: Tensor, rng: np.random.Generator) -> Batch:
        """Mix images, [B, 3, H, W] or one such tensor a crop, with targets [B], and make the teacher's input."""
        make = self.mixing_factory if self.mixing_on else None
        mixing = None if make is None else make(self.info.num_classes)
        return training_batch(images, targets, mixing, self.teacher_input, self.teacher_sees, rng)

    def evaluation_batches(
        self, dataset: ImageDataset, chosen: NDArray[np.int64], batch_size: int, num_workers: int = 0
    ) -> Loader:
        """Chosen images of a split as evaluation sees them.

        Args:
            dataset: the split.
            chosen: [n] positions.
            batch_size: images at once.
            num_workers: processes that read images; 0 reads in this one.

        Returns:
            Batches of images [B, 3, H, W], normalised, and class ids [B]; iterating leaves torch's random state alone.
        """
        images: Any = EvaluationImages(dataset, self.evaluation_transform())
        return DataLoader(
            images,
            batch_size=batch_size,
            sampler=[(int(position), True) for position in chosen],
            num_workers=num_workers,
            generator=torch.Generator(),  # else the loader would draw its seed from torch's global state
        )

    def _batch_rng(self, *purpose: int) -> np.random.Generator:
        """The generator of the batch at hand: of (seed, rank, epoch, step), and the purpose that is named."""
        assert self.trainer is not None
        step = self.trainer.fit_loop.batch_idx + 1  # counted up once the batch is on its device
        return np.random.default_rng((self.seed, self.ranks[1], self.trainer.current_epoch, step, *purpose))

    def _read(self) -> DataSplits:
        whole = sort_classes(self.spec.read(self.data), self.data.class_order or self.spec.class_order)
        if not self.data.exclude:
            return whole
        val = None if whole.val is None else drop(whole.val, self.data.exclude)
        train, test = (drop(dataset, self.data.exclude) for dataset in (whole.train, whole.test))
        return replace(whole, train=train, test=test, val=val)

    def _evaluated(self, source: ImageDataset, shared: bool = True) -> Loader:
        world, rank = self.ranks if shared else (1, 0)
        images = EvaluationImages(source, self.evaluation_transform())
        order, options = EvaluationSampler(source, world, rank), self.loader
        return make_loader(images, order, options.eval_batch_size, options.num_workers)


GROUPS: dict[str, type] = {
    "data": DataRequest,
    "split": SplitOptions,
    "transforms": Transforms,
    "loader": LoaderOptions,
    "file_check": FileCheck,
}


def _taken(values: dict[str, Any], kind: type) -> Mapping[str, Any]:
    """Those values that are fields of a dataclass; they are taken out."""
    return {field.name: values.pop(field.name) for field in fields(kind) if field.name in values}
