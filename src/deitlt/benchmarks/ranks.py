"""Measures what further CPU processes bring: images/s of several ranks over one, each on a core of its own."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from deitlt.benchmarks.bench import Workload, measured_stage, teacher_checkpoint, temporary_folder
from deitlt.benchmarks.rank import RESULT
from deitlt.benchmarks.timing import Seconds, median, ratio
from deitlt.engine.building import batch_plan
from deitlt.engine.processes import without_ranks
from deitlt.engine.ranks import STAGE_FILE
from deitlt.engine.stage_config import StageConfig
from deitlt.errors import TrainingError

Plain = dict[str, Any]
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
_TEACHERS_IMAGES = 10_000  # enough for every class of a data set to have one; none is shown to it
ALONE, ALONE_SAME_UPDATE, TOGETHER = "one rank", "one rank, the same update", "all ranks"


def measure_ranks(config: DictConfig) -> Plain:
    """Trains updates of generated images in one process and in several, in turns, each time in fresh ones.

    One rank is measured twice: with the same images a micro-batch, so that all ranks together see several times as
    many an update; and with the same images an update, which it accumulates, so that all compute the same.

    Returns:
        Of each case images/s and the processor's time for an image of the first rank; `times_one_rank`: the images/s
        of all ranks over those of one with equal micro-batches, and `times_same_update`: over those of one with
        equal updates, the medians over the rounds.
    """
    options = config.ranks
    batch, together = options.batch, options.batch * options.devices
    with temporary_folder() as folder:
        cases = {
            ALONE: _stage(config, Path(folder), 1, batch),
            ALONE_SAME_UPDATE: _stage(config, Path(folder), 1, together),
            TOGETHER: _stage(config, Path(folder), options.devices, together),
        }
        took: Seconds = {name: [] for name in cases}  # of an image
        busy: Seconds = {name: [] for name in cases}  # of the first rank's processor, for one of its images
        for _ in range(config.repeats):
            for name, stage in cases.items():
                plan, found = batch_plan(stage), run_ranks(stage)
                images = options.batches * plan.images_per_update
                took[name].append(found["seconds"] / images)
                busy[name].append(found["cpu_seconds"] * plan.devices / images)
    return {
        "stage": options.stage,
        "devices": options.devices,
        "cases": [
            {
                "case": name,
                "plan": str(batch_plan(stage)),
                "images_per_second": round(1 / median(took[name]), 2),
                "cpu_ms_per_image": round(1000 * median(busy[name]), 3),
            }
            for name, stage in cases.items()
        ],
        "times_one_rank": round(ratio(took, ALONE, TOGETHER), 3),
        "times_same_update": round(ratio(took, ALONE_SAME_UPDATE, TOGETHER), 3),
    }


def _stage(config: DictConfig, folder: Path, devices: int, images_per_update: int) -> StageConfig:
    """The stage on so many CPU processes, which look for no class's share of the images: they are generated."""
    stage = measured_stage(config, config.ranks.stage, folder)
    recipe = {**stage.recipe, "images_per_update": images_per_update, "batch_size": config.ranks.batch}
    data = {**stage.data, "imbalance_factor": None, "max_count": None, "val_fraction": 0.0, "num_workers": 0}
    trainer = {**stage.trainer, "accelerator": "cpu", "devices": devices}
    teacher = str(teacher_checkpoint(config, folder, Workload(1, 1, _TEACHERS_IMAGES))) if stage.distils else None
    place = str(folder / f"{devices}x{images_per_update}")
    return replace(stage, folder=place, recipe=recipe, data=data, trainer=trainer, teacher=teacher)


def run_ranks(stage: StageConfig) -> dict[str, float]:
    """What the first rank's `UpdateTimer` saw in a fresh process tree, in which each process has one thread.

    Raises:
        TrainingError: it ended otherwise than it should.
    """
    file = Path(stage.folder) / STAGE_FILE
    stage.save(file)
    command = [sys.executable, "-m", "deitlt.benchmarks.rank", str(file)]
    ended = subprocess.run(command, env=without_ranks() | _ONE_THREAD, check=False, capture_output=True, text=True)
    if ended.returncode:
        said = (ended.stderr.strip() or f"exit code {ended.returncode}").splitlines()[-1]
        raise TrainingError(f"{stage.trainer['devices']} ranks could not be measured: {said}")
    found: dict[str, float] = json.loads((file.parent / RESULT).read_text())
    return found


def ranks_rows(found: Plain) -> list[tuple[str, str]]:
    """The results, for a table."""
    rows = [
        (
            f"{case['case']}: {case['plan']}",
            f"{case['images_per_second']:,.1f} images/s, {case['cpu_ms_per_image']:.2f} ms of a core for each",
        )
        for case in found["cases"]
    ]
    return [
        *rows,
        (f"{found['devices']} ranks over one, equal micro-batches", f"{found['times_one_rank']:.2f} x"),
        (f"{found['devices']} ranks over one, equal updates", f"{found['times_same_update']:.2f} x"),
    ]
