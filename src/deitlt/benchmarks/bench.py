"""A stage of a recipe made ready to be measured: its epochs are short, and it leaves nothing behind."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from omegaconf import DictConfig
from PIL import Image
from rich.console import Console

from deitlt.checkpoints import find_checkpoint
from deitlt.data import DataRequest, LongTailDataModule
from deitlt.data.datasets import DataSplits
from deitlt.data.images import ArrayImages, FileImages
from deitlt.data.samplers import EpochSampler
from deitlt.engine.build import build_callbacks, build_data, build_module, build_spec, build_teacher, build_trainer
from deitlt.engine.logs import silence
from deitlt.engine.run_folder import RunFolder
from deitlt.engine.stage_config import STAGES, StageConfig, make_stage
from deitlt.errors import ConfigError, DataError, nearest, sentence
from deitlt.modules import ClassifierModule
from deitlt.tracking import AppendingCSVLogger

SAM = "sam_"  # before a stage's name: with sharpness-aware minimisation; without it where it is not there
ANY_RADIUS = {"_target_": "deitlt.optim.ConstantRho", "value": 0.05}  # no time depends on it
FILES, FILE_SIZE = 32, (500, 375)  # generated JPEG files, and their size, a usual one among ImageNet's
LARGEST_ARRAY = 64  # pixels a side; data sets of larger images are files, which have to be decoded
# A data set's classes, its smallest class over its largest as published, and its test images.
SHAPES = {
    "digits": (10, 1.0, 500),
    "cifar10": (10, 1.0, 10_000),
    "cifar100": (100, 1.0, 10_000),
    "imagenet_lt": (1000, 5 / 1280, 50_000),
    "places_lt": (365, 5 / 4980, 36_500),
    "inat18": (8142, 2 / 1000, 24_426),
}


@dataclass(frozen=True)
class Workload:
    """How much is measured, whatever the stage.

    batches: of a round, at least; rounds are whole epochs, and longer epochs are cut to so many. rounds: that count.
    generated: training images that stand for the data set's files, or None for the files.
    """

    batches: int
    rounds: int
    generated: int | None = None


@dataclass(frozen=True)
class Bench:
    """A stage's parts, ready to train: `round_epochs` epochs of `batches` batches are a round."""

    stage: StageConfig
    datamodule: LongTailDataModule
    module: ClassifierModule
    callbacks: list[L.Callback]
    trainer: L.Trainer
    batches: int
    batch_images: int
    round_epochs: int

    @property
    def device(self) -> torch.device:
        """Where it trains."""
        return self.trainer.strategy.root_device

    @property
    def round_batches(self) -> int:
        """Batches of a round."""
        return self.batches * self.round_epochs

    @property
    def round_images(self) -> int:
        """Images of a round."""
        return self.round_batches * self.batch_images


class ShortEpochs(EpochSampler):
    """The first `draws` draws of another sampler's epochs: whole batches, so that no worker reads ahead for nothing."""

    def __init__(self, whole: EpochSampler, draws: int) -> None:
        super().__init__(whole.data, whole.num_replicas, whole.rank)
        self.whole, self.draws = whole, draws

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of the next pass."""
        super().set_epoch(epoch)
        self.whole.set_epoch(epoch)

    def __len__(self) -> int:
        return self.draws

    def __iter__(self) -> Iterator[int]:
        return islice(iter(self.whole), self.draws)


def open_bench(config: DictConfig, name: str, folder: Path, workload: Workload, logs: bool = False) -> Bench:
    """Build all parts of a stage with fresh weights, the same ones each time.

    Args:
        config: the run's.
        name: a stage, or `SAM` and a stage.
        folder: an empty one, for what a stage writes.
        workload: how much will be trained.
        logs: log to a CSV file in the folder, as a run does.

    Raises:
        ConfigError: the stage would need several devices, or cannot be built.
    """
    silence()
    stage = measured_stage(config, name, folder)
    L.seed_everything(stage.seed, verbose=False)
    datamodule = _open_data(stage, folder, workload)
    if stage.distils:
        stage = replace(stage, teacher=str(_teacher_checkpoint(config, folder, workload)))
    draws = _shorten(datamodule, workload.batches)
    batches = max(1, draws // datamodule.loader.batch_size)
    round_epochs = math.ceil(workload.batches / batches)
    stage = _lasting(stage, round_epochs * (1 + workload.rounds))
    module = build_module(stage, datamodule.info, build_teacher(stage, datamodule))
    module.watched = ()
    callbacks = build_callbacks(stage, datamodule.info, Console(quiet=True))
    callbacks = [one for one in callbacks if not isinstance(one, ModelCheckpoint)]  # which would measure the disk
    trainer = build_trainer(stage, callbacks, [AppendingCSVLogger(stage.folder)] if logs else [], watches=False)
    trainer.callbacks = [one for one in trainer.callbacks if not isinstance(one, ModelCheckpoint)]  # type: ignore[attr-defined]
    return Bench(stage, datamodule, module, callbacks, trainer, batches, draws // batches, round_epochs)


def measured_stage(config: DictConfig, name: str, folder: Path) -> StageConfig:
    """The configuration of a stage with SAM or without it, on one device.

    Raises:
        ConfigError: there is no such stage, or it has several devices.
    """
    if name.removeprefix(SAM) not in STAGES:
        known = [f"{sam}{stage}" for stage in STAGES for sam in ("", SAM)]
        raise ConfigError(f"part={config.part} measures stages, and {name!r} is none; {nearest(name, known)}")
    stage = make_stage(config, RunFolder(folder), name.removeprefix(SAM))
    if (devices := stage.trainer["devices"]) != 1:
        raise ConfigError(f"trainer.devices={devices}: a benchmark measures one device; type trainer.devices=1.")
    sam = stage.recipe["sam"]
    if name.startswith(SAM) and not sam["enabled"]:
        sam = {"adaptive": False, "scope": "rank", "rho": ANY_RADIUS}
    sam = {**sam, "enabled": name.startswith(SAM)}
    return replace(stage, recipe={**stage.recipe, "sam": sam})


def generate(datamodule: LongTailDataModule, images: int, folder: Path) -> None:
    """Let a data module that was not opened yet read generated images in place of its data set's files.

    Size, classes and test images are the data set's. Small images are arrays of random pixels; larger ones are JPEG
    files, a few of which stand for all, so that decoding is measured and the disk is not.

    Args:
        datamodule: the stage's.
        images: training images, before they are made long-tailed.
        folder: where files may be written.

    Raises:
        ConfigError: nobody knows the data set's classes, or they are more than the images.
    """
    spec = datamodule.spec
    if spec.name not in SHAPES:
        raise ConfigError(
            f"generated={images} cannot stand for data.name={spec.name}, whose classes only its files tell; type "
            f"generated=null, or one of: {', '.join(f'data={name}' for name in SHAPES)}."
        )
    classes, smallest_share, test_images = SHAPES[spec.name]
    if images < classes:
        raise ConfigError(
            f"generated={images} leaves some of the {classes} classes of {spec.name} without an image; type "
            f"generated={10 * classes} or more."
        )
    labels = _labels(images, classes, smallest_share), _labels(test_images, classes, 1.0)
    datamodule.spec = replace(spec, read=partial(_read, labels, classes, spec.image_size, folder))


def _read(labels: tuple[Any, Any], classes: int, size: int, folder: Path, request: DataRequest) -> DataSplits:
    """What the data set's own reader would give; `request` says where its files would be."""
    names = tuple(f"class {c}" for c in range(classes))
    rng = np.random.default_rng(0)
    if size <= LARGEST_ARRAY:
        pixels = (rng.integers(0, 256, (len(part), size, size, 3), dtype=np.uint8) for part in labels)
        train, test = (ArrayImages(*pair) for pair in zip(pixels, labels, strict=True))
        return DataSplits(train, test, names)
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{i}.jpg" for i in range(FILES)]
    for file in files:  # as large as photographs of their size: smooth, with a little noise
        smooth = Image.fromarray(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)).resize(FILE_SIZE)
        noisy = np.asarray(smooth, dtype=np.int16) + rng.integers(-12, 13, (*FILE_SIZE[::-1], 1))
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(file, quality=90)
    train_files, test_files = (FileImages([files[i % FILES] for i in range(len(part))], part) for part in labels)
    return DataSplits(train_files, test_files, names)


def _labels(images: int, classes: int, smallest_share: float) -> Any:
    """Labels [N] of classes that fall in size evenly from class to class; each has an image."""
    shares = smallest_share ** np.linspace(0, 1, classes)
    counts = 1 + ((images - classes) * shares / shares.sum()).astype(np.int64)
    counts[: images - counts.sum()] += 1
    return np.repeat(np.arange(classes), counts)


def _open_data(stage: StageConfig, folder: Path, workload: Workload) -> LongTailDataModule:
    datamodule = build_data(stage)
    if workload.generated is not None:
        generate(datamodule, workload.generated, folder / "images")
    try:
        datamodule.setup()
    except DataError as error:
        if datamodule.spec.name not in SHAPES:
            raise
        advice = "or type generated=50000 to measure with generated images."
        raise DataError(f"{sentence(error).rstrip('.')}; {advice}") from error
    return datamodule


def _shorten(datamodule: LongTailDataModule, batches: int) -> int:
    """Cut epochs to at most so many whole batches; the images that are left of one."""
    make_order = datamodule.loader.sampler
    images = len(make_order(datamodule.splits.train, num_replicas=1, rank=0, seed=datamodule.seed))
    size = datamodule.loader.batch_size
    draws = min(images // size, batches) * size or images

    def short(*args: Any, **kwargs: Any) -> EpochSampler:
        return ShortEpochs(make_order(*args, **kwargs), draws)

    datamodule.loader = replace(datamodule.loader, sampler=short)
    return draws


def _lasting(stage: StageConfig, epochs: int) -> StageConfig:
    """The stage with as many epochs as will be measured, none of them re-weighted: most of a run is not."""
    drw = stage.recipe["drw"]
    if drw is not None:
        drw = {**drw, "start_epoch": max(drw["start_epoch"], epochs)}
    return replace(stage, recipe={**stage.recipe, "epochs": epochs, "drw": drw})


def _teacher_checkpoint(config: DictConfig, folder: Path, workload: Workload) -> Path:
    """The teacher's checkpoint that was given; else one with fresh weights, whose answers take as long."""
    if (given := config.teacher.checkpoint) is not None:
        return find_checkpoint(given, ("teacher",)).absolute()
    path = folder / "fresh_teacher.ckpt"
    folder.mkdir(parents=True, exist_ok=True)
    stage = measured_stage(config, "teacher", folder)
    datamodule = _open_data(stage, folder, workload)
    module = build_module(stage, datamodule.info)
    torch.save({"state_dict": module.state_dict(), "deitlt": build_spec(stage, datamodule).as_plain()}, path)
    return path
