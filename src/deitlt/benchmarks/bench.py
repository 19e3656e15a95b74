"""A stage of the recipe made ready to be measured: its epochs are short, and it leaves nothing behind."""

import math
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import Logger
from omegaconf import DictConfig
from rich.console import Console

from deitlt.benchmarks.stand_in import SHAPES, generate
from deitlt.checkpoints import find_checkpoint
from deitlt.data import LongTailDataModule
from deitlt.data.samplers import EpochSampler
from deitlt.engine.building import build_data, build_labeller, build_module
from deitlt.engine.fresh_teacher import write_fresh_teacher
from deitlt.engine.run_folder import RunFolder
from deitlt.engine.stage import quieten
from deitlt.engine.stage_config import STAGES, StageConfig
from deitlt.engine.stage_making import make_stage
from deitlt.engine.trainer import build_callbacks, build_trainer
from deitlt.errors import ConfigError, DataError, nearest, sentence
from deitlt.modules import ClassifierModule

SAM = "sam_"  # before a stage's name: with sharpness-aware minimisation, and without it where it is not there
ANY_RADIUS = {"_target_": "deitlt.optim.ConstantRho", "value": 0.05}  # no time depends on it


class ShortEpochs(EpochSampler):
    """The first draws of another sampler's epochs: whole batches, so that no worker reads ahead for nothing.

    Args:
        whole: the epochs.
        draws: how many of an epoch's draws come.
    """

    def __init__(self, whole: EpochSampler, draws: int) -> None:
        super().__init__(whole.data, whole.num_replicas, whole.rank)
        self.whole, self.draws = whole, draws

    def set_epoch(self, epoch: int) -> None:
        """Chooses the order of the next pass."""
        super().set_epoch(epoch)
        self.whole.set_epoch(epoch)

    def __len__(self) -> int:
        return self.draws

    def __iter__(self) -> Iterator[int]:
        return islice(iter(self.whole), self.draws)


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
    """A stage's parts, ready to train.

    epoch_images: images in the recipe's own epoch, of which an epoch here has `batches` batches. round_epochs:
    epochs of a round.
    """

    name: str
    stage: StageConfig
    datamodule: LongTailDataModule
    module: ClassifierModule
    callbacks: list[L.Callback]
    trainer: L.Trainer
    epoch_images: int
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


def open_bench(
    config: DictConfig,
    name: str,
    folder: Path,
    workload: Workload,
    loggers: Callable[[StageConfig], list[Logger]] = lambda stage: [],
) -> Bench:
    """Build all parts of a stage with fresh weights, the same ones each time.

    Args:
        config: the run's.
        name: a stage, or SAM and a stage.
        folder: an empty one, for what a stage writes.
        workload: how much will be trained.
        loggers: makes the trainer's loggers.

    Raises:
        ConfigError: if the stage would need several devices, or cannot be built.
    """
    quieten()
    stage = measured_stage(config, name, folder)
    L.seed_everything(stage.seed, verbose=False)
    datamodule = open_data(stage, folder, workload)
    if stage.distils:
        stage = replace(stage, teacher=str(teacher_checkpoint(config, folder, workload)))
    epoch_images, draws = _shorten(datamodule, workload.batches)
    batches = max(1, draws // datamodule.batch_size)
    round_epochs = math.ceil(workload.batches / batches)
    stage = _lasting(stage, round_epochs * (1 + workload.rounds))
    datamodule.labeller = build_labeller(stage, datamodule)
    module = build_module(stage, datamodule.info)
    module.watched = ()
    callbacks = build_callbacks(stage, datamodule.info, Console(quiet=True))
    trainer = build_trainer(stage, callbacks, loggers(stage), watches=False)
    # Checkpoints would measure the disk; without one of ours the trainer has made its own.
    kept = [callback for callback in trainer.callbacks if not isinstance(callback, ModelCheckpoint)]  # type: ignore[attr-defined]
    trainer.callbacks = kept  # type: ignore[attr-defined]
    return Bench(name, stage, datamodule, module, kept, trainer, epoch_images, batches, draws // batches, round_epochs)


def measured_stage(config: DictConfig, name: str, folder: Path) -> StageConfig:
    """The configuration of a stage with SAM or without it, on one device.

    Raises:
        ConfigError: if it has several devices, or is none.
    """
    if name.removeprefix(SAM) not in STAGES:
        known = [f"{sam}{stage}" for stage in STAGES for sam in ("", SAM)]
        raise ConfigError(f"part={config.part} measures stages, and {name!r} is none; {nearest(name, known)}")
    stage = make_stage(config, RunFolder(folder), name.removeprefix(SAM))
    if stage.trainer["devices"] != 1:
        raise ConfigError(
            f"trainer.devices={stage.trainer['devices']}: part={config.part} measures one device; type "
            "trainer.devices=1 teacher.devices=1 student.devices=1."
        )
    sam = stage.recipe["sam"]
    if name.startswith(SAM) and not sam["enabled"]:
        sam = {"enabled": True, "adaptive": False, "scope": "rank", "rho": ANY_RADIUS}
    sam = {**sam, "enabled": name.startswith(SAM)}
    return replace(stage, recipe={**stage.recipe, "sam": sam})


def configured_name(config: DictConfig, stage: str) -> str:
    """A stage's name here, as it is configured: with SAM or without."""
    node = config.teacher if stage == "teacher" else config.student
    return f"{SAM}{stage}" if node.sam.enabled else stage


def open_data(stage: StageConfig, folder: Path, workload: Workload) -> LongTailDataModule:
    """A stage's data module, opened, of generated images where those are asked for.

    Raises:
        DataError: the data set's files are missing or broken.
    """
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


def _shorten(datamodule: LongTailDataModule, batches: int) -> tuple[int, int]:
    """Cut epochs to at most so many whole batches; images of the epoch as it was, and of a short one."""
    make_order, source = datamodule.sampler, datamodule.splits.train
    images = len(make_order(source, num_replicas=1, rank=0, seed=datamodule.seed))
    size = datamodule.batch_size
    draws = min(images // size, batches) * size or images

    def short(*args: Any, **kwargs: Any) -> EpochSampler:
        return ShortEpochs(make_order(*args, **kwargs), draws)

    datamodule.sampler = short
    whole = images // size * size if datamodule.drop_last and images >= size else images
    return whole, draws


def _lasting(stage: StageConfig, epochs: int) -> StageConfig:
    """The stage with as many epochs as will be measured, none of them re-weighted: most of a run is not."""
    drw = stage.recipe["drw"]
    if drw is not None:
        drw = {**drw, "start_epoch": max(drw["start_epoch"], epochs)}
    return replace(stage, recipe={**stage.recipe, "epochs": epochs, "drw": drw})


def teacher_checkpoint(config: DictConfig, folder: Path, workload: Workload) -> Path:
    """The teacher's checkpoint that was given; else one with fresh weights, whose answers take as long."""
    if (given := config.teacher.checkpoint) is not None:
        return find_checkpoint(given, ("teacher",)).absolute()
    path = folder / "fresh_teacher.ckpt"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        stage = measured_stage(config, "teacher", folder)
        write_fresh_teacher(stage, open_data(stage, folder, workload), path)
    return path


def temporary_folder() -> "tempfile.TemporaryDirectory[str]":
    """Where a measured stage may write; gone once it is left."""
    return tempfile.TemporaryDirectory(prefix="deitlt-benchmark-")
