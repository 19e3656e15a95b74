"""The LightningDataModule: opens a data set, makes it long-tailed, and hands out complete batches."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import lightning as L
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from deitlt.data.class_order import sort_classes
from deitlt.data.completion import Labeller, PlacedLabeller, TeacherSees, check_teacher_sees, complete_batch
from deitlt.data.dataset import EvaluatedImages
from deitlt.data.delivery import Decoder, make_feed
from deitlt.data.feeds import BatchView, Feed
from deitlt.data.missing import require_files
from deitlt.data.registry import DataRequest, DatasetSpec, DataSplits, get_dataset
from deitlt.data.resident import Resident, choose_resident
from deitlt.data.samplers import DrawSampler, EpochSampler, EvaluationSampler, ShuffledSampler
from deitlt.data.sources import ImageSource
from deitlt.data.splits import LongTailSplits, SplitOptions, long_tailed
from deitlt.data.verify import drop, find_broken, require_sound
from deitlt.data.view_factories import EvaluationFactory, ViewFactory
from deitlt.data.workers import outlive_signals
from deitlt.errors import ConfigError
from deitlt.types import DataInfo, ImageBatch, StudentBatch
from deitlt.views import IMAGENET, BatchMixing, evaluation_view, weak_view

Loader = DataLoader[tuple[Tensor, Tensor]]
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
        if group_cuts and len(group_cuts) != 2:
            raise ConfigError(
                f"data.group_cuts={list(group_cuts)} must be two numbers; type data.group_cuts=[3,7], say."
            )
        cuts = (group_cuts[0], group_cuts[1]) if group_cuts else None
        self.options = SplitOptions(imbalance_factor, imbalance_kind, max_count, val_fraction, groups, cuts, split_seed)
        if on_broken not in ("error", "skip"):
            raise ConfigError(f"data.on_broken={on_broken} is no choice; type =error or =skip.")
        if on_broken == "skip" and not verify:
            raise ConfigError("data.on_broken=skip has to look for broken files first; type data.verify=true with it.")
        if statistics not in ("imagenet", "own"):
            raise ConfigError(f"statistics={statistics} is no choice; type =imagenet or =own.")
        self.on_broken = on_broken
        self.verify, self.exclude = verify, list(exclude)
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
        require_files(self._sources(), self.request.root.expanduser())
        if not self.verify:
            return []
        if self.on_broken == "skip":
            whole = self._read()
            return sorted({*find_broken(whole.train), *find_broken(whole.test)})
        require_sound(self._sources())
        return []

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
    def watched(self) -> tuple[str, ...]:
        """The splits that `val_dataloader` gives, in its order: those asked for that exist."""
        return tuple(n for n in self.watched_names if n == "test" or self.splits.val is not None)

    def train_dataloader(self) -> Loader:
        """Training images in the epoch's order, from the epoch at which training begins or goes on."""
        world, rank, epoch = self._place()
        order = self.sampler(self.splits.train, num_replicas=world, rank=rank, seed=self.seed)
        # With workers the first epoch's order is fetched before the loop calls set_epoch.
        order.set_epoch(epoch)
        if len(order) == 0:
            raise ConfigError(
                f"Repeated augmentation shows no image of a training set of {len(self.splits.train)}; "
                "type data/sampler=repeated_full, which shows every one, or data/sampler=shuffled."
            )
        feed = self._feed = self.feed()
        drop_last = self.drop_last and len(order) >= self.batch_size
        workers = self.num_workers if feed.by_workers else 0
        draws = DrawSampler(order, self._batches_done() * self.batch_size)
        return self._loader(feed.images, draws, self.batch_size, drop_last, workers, feed.collate)

    def feed(self) -> Feed:
        """How this rank's training images reach the step."""
        view = self.view(self.image_size, self.normalisation)
        rank = self._place()[1]
        return make_feed(self.splits.train, view, self.resident, self.decoder, self._device(), self.seed, rank)

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
        if isinstance(self.labeller, PlacedLabeller):
            self.labeller.at(self.trainer.current_epoch, self._step(), self.mixing_on)
        views = self._feed.finish(images, targets.device, self._batch_stream(VIEWS))
        return self.complete(views, targets, self._batch_stream())

    def complete(self, views: Tensor | Sequence[Tensor], targets: Tensor, rng: np.random.Generator) -> StudentBatch:
        """Mix viewed images, [B, 3, H, W] a view, with targets [B], then ask the teacher about what came out."""
        make = self.mixing_factory if self.mixing_on else None
        mixing = None if make is None else make(self.info.num_classes)
        return complete_batch(views, targets, mixing, self.labeller, self.teacher_sees, rng)

    def _read(self) -> DataSplits:
        whole = sort_classes(self.spec.read(self.request), self.class_order)
        if not self.exclude:
            return whole
        train, test = (drop(source, self.exclude) for source in (whole.train, whole.test))
        return replace(whole, train=train, test=test)

    def _sources(self) -> list[ImageSource]:
        found = (self.splits.train, self.splits.val, self.splits.test)
        return [source for source in found if source is not None]

    def _evaluated(self, source: ImageSource, shared: bool = True) -> Loader:
        world, rank, _ = self._place() if shared else (1, 0, 0)
        images = EvaluatedImages(source, self.evaluation(self.image_size, self.normalisation))
        return self._loader(images, EvaluationSampler(source, world, rank), self.eval_batch_size)

    def _loader(
        self,
        images: Any,
        order: Any,
        batch_size: int,
        drop_last: bool = False,
        workers: int | None = None,
        collate: Callable[[list[Any]], Any] | None = None,
    ) -> Loader:
        workers = self.num_workers if workers is None else workers
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

    def _device(self) -> torch.device:
        """Where the batches go."""
        return torch.device("cpu") if self.trainer is None else self.trainer.strategy.root_device

    def _place(self) -> tuple[int, int, int]:
        """World size, rank, and the epoch that training is at."""
        if self.trainer is None:
            return 1, 0, 0
        # `completed`, which `current_epoch` reads, is brought up to date only after the loaders are made.
        epoch = self.trainer.fit_loop.epoch_progress.current.processed  # type: ignore[attr-defined]
        return self.trainer.world_size, self.trainer.global_rank, epoch

    def _batches_done(self) -> int:
        """Batches of the epoch at hand that a run had done which was stopped in the middle of it."""
        if self.trainer is None or not self.trainer.fit_loop.restarting:
            return 0
        return int(self.trainer.fit_loop.epoch_loop.batch_progress.current.completed)

    def _batch_stream(self, *purpose: int) -> np.random.Generator:
        """This batch's own generator, for mixing or for the purpose that is named."""
        assert self.trainer is not None
        key = (self.seed, self.trainer.global_rank, self.trainer.current_epoch, self._step(), *purpose)
        return np.random.default_rng(key)

    def _step(self) -> int:
        """Which batch of this rank's epoch is at hand, in whatever run it came."""
        assert self.trainer is not None
        return int(self.trainer.fit_loop.epoch_loop.batch_progress.current.ready)
