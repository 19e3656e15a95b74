"""The LightningDataModule: opens a data set, makes it long-tailed, and hands out batches."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import lightning as L
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader

from deitlt.data.completion import Labeller, TeacherSees, check_teacher_sees, complete_batch
from deitlt.data.datasets import DataRequest, DatasetSpec, DataSplits, get_dataset
from deitlt.data.delivery import Decoder, make_feed
from deitlt.data.feeds import BatchView, Feed
from deitlt.data.file_checks import FileCheck
from deitlt.data.images import ImageDataset, drop
from deitlt.data.loading import EvaluationImages, Loader, make_loader
from deitlt.data.resident import Resident, choose_resident
from deitlt.data.samplers import EpochSampler, EvaluationSampler, KeyedSampler, ShuffledSampler
from deitlt.data.splits import LongTailSplits, SplitOptions, long_tailed, sort_classes
from deitlt.data.view_factories import EvaluationFactory, ViewFactory
from deitlt.errors import ConfigError
from deitlt.transforms import IMAGENET, BatchMixing, evaluation_view, weak_view
from deitlt.types import DataInfo, ImageBatch, StudentBatch

VIEWS = 1  # names the stream of a batch's views; that of its mixing has no name


class LongTailDataModule(L.LightningDataModule):
    """One stage's data: long-tailed training batches, and splits to evaluate on.

    A training batch is complete when it reaches the module: viewed in the workers or on the device, then mixed
    there, then labelled by whoever teaches. Views made in workers depend on (seed, rank, epoch, index), those made
    on the device and mixing on (seed, rank, epoch, step), so a resumed run repeats them.

    Args:
        name: one of `list_datasets()`.
        root: folder of the data, where the data set has files.
        download: fetch absent files, where the data set can.
        train_csv: list of (path, label) for name='folder'; None reads folders.
        test_csv: the same for the test set.
        train_list: list of the training images, for data sets that are published as lists; None looks for it
            in `root` under its published name.
        test_list: the same for the test set.
        class_order: 'label', 'count' or 'authors', or a file (see `sort_classes`); None for the data set's own.
        imbalance_factor: smallest class / largest class, in (0, 1]; None leaves the classes as they are.
        imbalance_kind: 'exp' or 'step'.
        max_count: images of the largest class; None for all it has.
        val_fraction: share of each class's training images held out for validation.
        groups: 'paper' or 'shots', how classes are grouped into head, mid and tail.
        group_cuts: where the paper's groups are cut; None for the data set's own.
        split_seed: seeds the selection of images, apart from the run's seed.
        on_broken: 'error' stops at an image that cannot be decoded, 'skip' goes on without it.
        verify: have `check_files` decode every file.
        exclude: image files to leave out (those that a check found broken).
        resident: for views of batches: whether the images live on the device; 'auto' where they fit.
        decoder: for views of batches of files: 'worker' decodes in workers, 'device' where the images are needed.
        image_size: pixels a side of a view; None for the data set's own.
        statistics: normalise with ImageNet's mean and deviation, or with the data set's 'own'.
        view: (image_size, normalisation) -> training view of one picture, or of a batch on its device.
        evaluation: the same for evaluation.
        mixing: num_classes -> `BatchMixing`; None never mixes.
        sampler: (data, num_replicas, rank, seed=...) -> order of the training images.
        drop_last: leave out an epoch's short last batch, as DeiT does, unless it is the only one.
        labeller: images [B, 3, H, W] -> the teacher's answers, or None.
        teacher_sees: of several crops of an image, which the teacher labels: 'global' or 'both'.
        batch_size: images a device and micro-batch.
        eval_batch_size: images a device and evaluation batch.
        num_workers: processes that read images; 0 reads in the training process.
        watched: splits that are evaluated while training, of 'val' and 'test'.
        seed: the run's.
    """

    def __init__(
        self,
        name: str = "digits",
        root: str | Path = "data",
        download: bool = True,
        train_csv: str | Path | None = None,
        test_csv: str | Path | None = None,
        train_list: str | Path | None = None,
        test_list: str | Path | None = None,
        class_order: str | None = None,
        imbalance_factor: float | None = None,
        imbalance_kind: Literal["exp", "step"] = "exp",
        max_count: int | None = None,
        val_fraction: float = 0.0,
        groups: Literal["paper", "shots"] = "paper",
        group_cuts: Sequence[int] | None = None,
        split_seed: int = 0,
        on_broken: Literal["error", "skip"] = "error",
        verify: bool = True,
        exclude: Sequence[str] = (),
        resident: Resident = "auto",
        decoder: Decoder = "worker",
        image_size: int | None = None,
        statistics: Literal["imagenet", "own"] = "imagenet",
        view: ViewFactory = weak_view,
        evaluation: EvaluationFactory = evaluation_view,
        mixing: Callable[[int], BatchMixing] | None = None,
        sampler: Callable[..., EpochSampler] = ShuffledSampler,
        drop_last: bool = True,
        labeller: Labeller | None = None,
        teacher_sees: TeacherSees = "both",
        batch_size: int = 128,
        eval_batch_size: int = 250,
        num_workers: int = 0,
        watched: Sequence[str] = ("val",),
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.spec: DatasetSpec = get_dataset(name)
        self.request = DataRequest(
            root=Path(root),
            download=download,
            train_csv=Path(train_csv) if train_csv else None,
            test_csv=Path(test_csv) if test_csv else None,
            train_list=Path(train_list) if train_list else None,
            test_list=Path(test_list) if test_list else None,
        )
        self.class_order = class_order or self.spec.class_order
        cuts = tuple(group_cuts) if group_cuts else None
        self.options = SplitOptions(imbalance_factor, imbalance_kind, max_count, val_fraction, groups, cuts, split_seed)
        if statistics not in ("imagenet", "own"):
            raise ConfigError(f"statistics={statistics} is no choice; type =imagenet or =own.")
        self.file_check, self.exclude = FileCheck(on_broken, verify), list(exclude)
        self.resident, self.decoder = resident, decoder
        self.image_size = image_size or self.spec.image_size
        self.normalisation = IMAGENET if statistics == "imagenet" else self.spec.normalisation
        self.view, self.evaluation = view, evaluation
        self.mixing_factory, self.mixing_on = mixing, True
        self.sampler, self.drop_last, self.labeller = sampler, drop_last, labeller
        self.teacher_sees = check_teacher_sees(teacher_sees)
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size
        self.num_workers = num_workers
        self.watched_names = tuple(watched)
        self.seed = seed
        self._splits: LongTailSplits | None = None
        self._feed: Feed | None = None

    def setup(self, stage: str | None = None) -> None:
        """Open the data, once, however often Lightning asks."""
        if self._splits is None:
            self._splits = long_tailed(self._read(), self.options, self.spec.group_cuts)

    def check_files(self) -> list[str]:
        """Look for every image file, and decode each once, before a long training does.

        Returns:
            Files to leave out, where on_broken='skip' allows it.

        Raises:
            DataError: files are missing, or one is broken where on_broken='error'.
        """
        found = (self.splits.train, self.splits.val, self.splits.test)
        used = [source for source in found if source is not None]
        return self.file_check(used, self._read, self.request.root.expanduser())

    @property
    def splits(self) -> LongTailSplits:
        """The opened data."""
        self.setup()
        assert self._splits is not None
        return self._splits

    @property
    def info(self) -> DataInfo:
        """What the training data are."""
        return self.splits.info

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
        world, rank = self.ranks
        order = self.sampler(self.splits.train, num_replicas=world, rank=rank, seed=self.seed)
        # With workers the first epoch's order is fetched before the loop calls set_epoch, and a resumed run's
        # `current_epoch` is brought up to date only after that.
        loop = None if self.trainer is None else self.trainer.fit_loop
        order.set_epoch(0 if loop is None else loop.epoch_progress.current.processed)  # type: ignore[attr-defined]
        if len(order) == 0:
            raise ConfigError(
                f"Repeated augmentation shows no image of a training set of {len(self.splits.train)}; "
                "type data/sampler=repeated_full, which shows every one, or data/sampler=shuffled."
            )
        feed = self._feed = self.feed()
        drop_last = self.drop_last and len(order) >= self.batch_size
        workers = self.num_workers if feed.by_workers else 0
        resumed = loop is not None and loop.restarting
        done = loop.epoch_loop.batch_progress.current.completed * self.batch_size if loop and resumed else 0
        return make_loader(feed.images, KeyedSampler(order, done), self.batch_size, workers, drop_last, feed.collate)

    def feed(self) -> Feed:
        """How this rank's training images reach the step."""
        view = self.view(self.image_size, self.normalisation)
        device = torch.device("cpu") if self.trainer is None else self.trainer.strategy.root_device
        return make_feed(self.splits.train, view, self.resident, self.decoder, device, self.seed, self.ranks[1])

    def choose_resident(self, device: torch.device) -> Resident:
        """Whether the training images will live on a device; the choice as it stands where no view asks for it.

        Raises:
            ConfigError: they were asked to, and cannot.
        """
        view = self.view(self.image_size, self.normalisation)
        if not isinstance(view, BatchView):
            return self.resident
        chosen = choose_resident(self.splits.train, self.resident, device)
        make_feed(self.splits.train, view, chosen, self.decoder, device, self.seed, rank=0)  # or an error
        return chosen

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

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> ImageBatch | StudentBatch:
        """Complete a batch on its device while training: view it, mix it, and ask the teacher."""
        images, targets = batch
        if self.trainer is None or not self.trainer.training:
            return ImageBatch(images, targets)
        assert self._feed is not None
        views = self._feed.finish(images, targets.device, self._batch_rng(VIEWS))
        return self.complete(views, targets, self._batch_rng())

    def complete(self, views: Tensor | Sequence[Tensor], targets: Tensor, rng: np.random.Generator) -> StudentBatch:
        """Mix viewed images, [B, 3, H, W] a view, with targets [B], then ask the teacher about what came out."""
        make = self.mixing_factory if self.mixing_on else None
        mixing = None if make is None else make(self.info.num_classes)
        return complete_batch(views, targets, mixing, self.labeller, self.teacher_sees, rng)

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
        images: Any = EvaluationImages(dataset, self.evaluation(self.image_size, self.normalisation))
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
        whole = sort_classes(self.spec.read(self.request), self.class_order)
        if not self.exclude:
            return whole
        train, test = (drop(source, self.exclude) for source in (whole.train, whole.test))
        return replace(whole, train=train, test=test)

    def _evaluated(self, source: ImageDataset, shared: bool = True) -> Loader:
        world, rank = self.ranks if shared else (1, 0)
        images = EvaluationImages(source, self.evaluation(self.image_size, self.normalisation))
        return make_loader(images, EvaluationSampler(source, world, rank), self.eval_batch_size, self.num_workers)
