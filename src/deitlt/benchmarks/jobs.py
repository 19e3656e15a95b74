"""The measurements behind the project's targets, each a benchmark command of its own in a fresh process."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from deitlt.engine.processes import without_ranks

Plain = dict[str, Any]
CPU, GPU = "cpu", "gpu"
CORES = 2  # that a measurement of the CPU gets: so many the targets speak of
_SECONDS = 3600  # that a command may take before it is given up

_CIFAR = ("experiment=cifar10_lt_if100", "generated=50000")  # its own images are 50,000, too
_SMALL = ("experiment=cifar10_cpu", "data=cifar10", "generated=5000", "trainer=cpu", "data.num_workers=1")


@dataclass(frozen=True)
class Job:
    """One benchmark command.

    where: `CPU`, on two cores and without a GPU, or `GPU`. words: its overrides.
    """

    name: str
    where: str
    words: tuple[str, ...]


_VIEWS = ("part=views", "experiment=cifar10_lt_if100")  # whose views are the paper's, all operations on
_ON_GPU = (*_CIFAR, "student/views=device", "teacher/views=device", "trainer=gpu")
_EPOCH = "training.batches=96"  # an epoch of CIFAR-10-LT at imbalance 100 in batches of 128

JOBS = (
    Job("index", CPU, ("part=index", "rows=10000000", "workers=8", "strings=false")),
    Job("cpu_training", CPU, ("part=training", *_SMALL, "training.measured=[teacher,sam_teacher,student]")),
    Job("cpu_timm", CPU, ("part=training", *_SMALL, "training.measured=[student]", "compare=timm", "repeats=3")),
    Job("cpu_views", CPU, (*_VIEWS, "trainer=cpu", "workers=2", "views.sizes=[[32,32],[32,224],[256,224]]")),
    Job(
        "cpu_epoch",
        CPU,
        (
            *("part=epoch", "experiment=cifar10_lt_if100", "generated=5000", "trainer=cpu", "student/model=deit_tiny"),
            *("student.batch_size=32", "student.images_per_update=32", "data.num_workers=2", "epoch.batches=6"),
            "repeats=3",
        ),
    ),
    Job("cpu_ranks", CPU, ("part=ranks", *_SMALL, "student/views=device_small", "ranks.batch=64", "repeats=3")),
    Job("cpu_scaling", CPU, ("part=scaling", "repeats=3")),
    Job("cpu_profile", CPU, ("part=profile", *_SMALL, "student/views=device_small")),
    Job("gpu_views", GPU, (*_VIEWS, "trainer=gpu", "workers=16", "views.sizes=[[32,224],[256,224]]")),
    Job("gpu_student", GPU, ("part=training", *_ON_GPU, "training.measured=[student]", _EPOCH)),
    Job("gpu_teacher", GPU, ("part=training", *_ON_GPU, "training.measured=[teacher,sam_teacher]", _EPOCH)),
    Job(
        "gpu_teacher_fed_by_workers",
        GPU,
        (
            *("part=epoch", *_CIFAR, "trainer=gpu", "epoch.stage=sam_teacher", "epoch.batches=96", "repeats=3"),
            'epoch.fast=["teacher/views=device","trainer.compile=true"]',
            'epoch.plain=["teacher/views=weak","trainer.compile=false","data.num_workers=16"]',
        ),
    ),
    Job(
        "gpu_timm",
        GPU,
        (
            *("part=training", *_ON_GPU, "training.measured=[student]", _EPOCH),
            *("compare=timm", "data.num_workers=16", "repeats=3"),
        ),
    ),
    Job("gpu_profile", GPU, ("part=profile", *_ON_GPU, "profile.warmup=20")),
    Job("gpu_profile_eager", GPU, ("part=profile", *_ON_GPU, "profile.warmup=20", "trainer.compile=false")),
    Job(
        "gpu_teacher_profile_eager",
        GPU,
        ("part=profile", *_ON_GPU, "profile.warmup=20", "profile.stage=sam_teacher", "trainer.compile=false"),
    ),
    Job("gpu_scaling", GPU, ("part=scaling", "scaling.images=[10000,100000]", "scaling.devices=[1]")),
    Job("gpu_recipe", GPU, ("part=recipe", *_ON_GPU)),
)


def can_run(job: Job) -> bool:
    """Whether this machine has what the job measures."""
    return job.where == CPU or torch.cuda.is_available()


def run_job(job: Job, words: Sequence[str], folder: Path) -> tuple[Plain | None, str]:
    """Run a command to its end.

    Args:
        job: the command.
        words: its overrides, with the user's.
        folder: where its JSON file, and its picture if it draws one, go: NAME.json, NAME.png.

    Returns:
        What it found, and ''; or None, and why there is nothing.
    """
    file = folder / f"{job.name}.json"
    file.unlink(missing_ok=True)
    places = (f"output={file}", f"profile.picture={file.with_suffix('.png')}")
    command = [sys.executable, "-m", "deitlt", "benchmark", *words, *places]
    try:
        with _on_cores(job):
            ended = subprocess.run(
                command, env=_environment(job), capture_output=True, text=True, check=False, timeout=_SECONDS
            )
    except subprocess.TimeoutExpired:
        return None, f"it took more than {_SECONDS} seconds"
    if ended.returncode or not file.exists():
        said = (ended.stderr.strip() or f"exit code {ended.returncode}").splitlines()[-1]
        return None, said.removeprefix("deitlt: ")
    found: Plain = json.loads(file.read_text())
    return found, ""


def _environment(job: Job) -> dict[str, str]:
    """A job of the CPU sees no GPU, and computes on as many threads as it has cores."""
    if job.where == GPU:
        return without_ranks()
    threads = str(min(CORES, os.cpu_count() or 1))
    return without_ranks() | {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}


@contextmanager
def _on_cores(job: Job) -> Iterator[None]:
    """What is started within keeps to two cores if it is a job of the CPU, where the system can do that."""
    if job.where == GPU or not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, set(sorted(before)[:CORES]))
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
