"""What a whole recipe would take on this machine: measured rounds, times its epochs and evaluations."""

import gc
import time
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from torch.utils.data import DataLoader

from deitlt.benchmarks.bare_loop import BareLoop
from deitlt.benchmarks.bench import (
    Workload,
    configured_name,
    measured_stage,
    open_bench,
    temporary_folder,
)
from deitlt.benchmarks.fitting import fit_in_rounds
from deitlt.benchmarks.settled_batch import with_batches
from deitlt.benchmarks.timing import finish, median
from deitlt.benchmarks.training import configuration, workload_of
from deitlt.engine.stage_config import check_run
from deitlt.errors import ConfigError
from deitlt.modules import ClassifierModule
from deitlt.tracking import AppendingCSVLogger
from deitlt.types import ImageBatch

Plain = dict[str, Any]


def measure_recipe(config: DictConfig) -> Plain:
    """Measures some rounds and evaluation batches of each stage that the recipe would train.

    Returns:
        Of each stage the seconds that its epochs and its evaluations would take. What begins and ends a run, compiling
        and checkpoints are not counted, nor is what deferred re-weighting saves where it ends mixing.

    Raises:
        ConfigError: every stage is given as a checkpoint.
    """
    check_run(config)
    trained = [name for name in config.stages if name == "baseline" or config[name].checkpoint is None]
    if not trained:
        raise ConfigError("Every stage is given as a checkpoint, so there is nothing to train; type stages=[student].")
    with temporary_folder() as folder:
        workload = workload_of(config)
        names = [configured_name(config, name) for name in trained]
        config = with_batches(config, names, Path(folder), workload)
        stages = {name: measure_stage_time(config, name, Path(folder), workload) for name in trained}
    return {"stages": stages, "seconds": sum(stage["seconds"] for stage in stages.values())}


def measure_stage_time(config: DictConfig, stage_name: str, folder: Path, workload: Workload) -> Plain:
    """Seconds that a stage of the recipe would take.

    Args:
        config: the run's.
        stage_name: 'teacher', 'student' or 'baseline'; with SAM if the recipe has it.
        folder: where it may write.
        workload: how much is measured.
    """
    gc.collect()
    torch.compiler.reset()
    name = configured_name(config, stage_name)
    recipe = measured_stage(config, name, folder / stage_name).recipe
    bench = open_bench(config, name, folder / stage_name, workload, lambda stage: [AppendingCSVLogger(stage.folder)])
    rounds = [one.seconds for one in fit_in_rounds(bench)]
    speed = bench.round_images / median(rounds)
    found: Plain = {
        "configuration": configuration(bench),
        "rounds": rounds,
        "epochs": recipe["epochs"],
        "epoch_images": bench.epoch_images,
        "images_per_second": speed,
        "training_seconds": recipe["epochs"] * bench.epoch_images / speed,
        **_evaluation(config, name, folder / f"{stage_name}_evaluation", workload, recipe["epochs"]),
    }
    return {**found, "seconds": found["training_seconds"] + found["evaluation_seconds"]}


def _evaluation(config: DictConfig, name: str, folder: Path, workload: Workload, epochs: int) -> Plain:
    """Images that the stage evaluates, those of the test among them, and how long that would take."""
    loop = BareLoop(open_bench(config, name, folder, workload))
    splits, watched = loop.data.splits, loop.data.watched
    sizes = {"test": len(splits.test), "val": 0 if splits.val is None else len(splits.val)}
    images = sum(sizes[split] for split in watched) * (epochs // min(config.evaluate_every, epochs)) + sizes["test"]
    speed = _evaluated_per_second(loop, workload.batches)
    return {"evaluated_images": images, "evaluated_per_second": speed, "evaluation_seconds": images / speed}


@torch.no_grad()
def _evaluated_per_second(loop: BareLoop, batches: int) -> float:
    """Test images a second, by the trained weights and their average together, after a first batch."""
    loop.module.eval()
    loop.trainer.testing = True
    loader: DataLoader[Any] = loop.data.test_dataloader()
    counted, began = 0, 0.0
    for i, batch in enumerate(loader):
        _evaluate(loop, loop.module, batch, i)
        if i == 0:
            finish(loop.device)
            began = time.perf_counter()
        else:
            counted += len(batch[0])
        if i == batches:
            break
    finish(loop.device)
    if counted:
        return counted / (time.perf_counter() - began)
    return _of_one_batch(loop, batch)


def _of_one_batch(loop: BareLoop, batch: Any) -> float:
    """The same of a test set of one batch: its reading is left out."""
    began = time.perf_counter()
    _evaluate(loop, loop.module, batch, 0)
    finish(loop.device)
    return len(batch[0]) / (time.perf_counter() - began)


def _evaluate(loop: BareLoop, module: ClassifierModule, batch: Any, i: int) -> None:
    images, targets = loop.data.transfer_batch_to_device(batch, loop.device, 0)
    with loop.trainer.precision_plugin.forward_context():
        module.test_step(ImageBatch(images, targets), i)


def recipe_table(found: Plain) -> list[list[str]]:
    """The results: a row a stage, the first row names the columns."""
    rows = [["stage", "epochs", "images an epoch", "images/s", "training", "evaluation", "together"]]
    for name, stage in found["stages"].items():
        seconds = (stage["training_seconds"], stage["evaluation_seconds"], stage["seconds"])
        images = (f"{stage['epochs']:,}", f"{stage['epoch_images']:,}", f"{stage['images_per_second']:,.0f}")
        rows.append([name, *images, *map(duration, seconds)])
    return [*rows, ["all", "", "", "", "", "", duration(found["seconds"])]]


def duration(seconds: float) -> str:
    """Seconds in a unit that reads well."""
    for unit, length in (("days", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * length or (unit == "h" and seconds >= length):
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.1f} s"
