"""Measures everything that the project set out to reach, and says which of it was reached on this machine."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from deitlt.benchmarks.jobs import JOBS, Job, can_run, run_job
from deitlt.benchmarks.machine import machine
from deitlt.benchmarks.recipes import key_of, merged
from deitlt.engine.run_folder import write_json
from deitlt.errors import ConfigError, nearest

Plain = dict[str, Any]
NOT_YET = "not yet measured"
OWN_KEYS = ("part", "output")  # of this part itself, beside those below `all`
_MIB = 2**20


@dataclass(frozen=True)
class Target:
    """One thing to reach.

    what: in words. job: whose result shows it. bound: the least or the most that is wanted. at_least: which of the
    two. read: the figure in the job's result; it may raise LookupError where that lacks it.
    """

    what: str
    job: str
    bound: float
    at_least: bool
    read: Callable[[Plain], float]

    @property
    def wanted(self) -> str:
        """The bound, in words."""
        return f"{'at least' if self.at_least else 'at most'} {self.bound:g}"

    def is_reached(self, value: float) -> bool:
        """Whether a figure is within the bound."""
        return value >= self.bound if self.at_least else value <= self.bound


def _stage(name: str, *keys: str) -> Callable[[Plain], float]:
    """A figure of a stage that part=training has measured."""

    def read(found: Plain) -> float:
        value: Any = found["stages"][name]
        for key in keys:
            value = value[key]
        return float(value)

    return read


def _sam(found: Plain) -> float:
    return float(found["sam"]["teacher"]["sam_over_plain"])


def _views(source: int, size: int) -> Callable[[Plain], float]:
    """How many times the images/s of timm's views in workers the view `device` has."""

    def read(found: Plain) -> float:
        for sizes in found["sizes"]:
            if (sizes["source_pixels"], sizes["pixels"]) == (source, size):
                return float(next(view["times_the_first"] for view in sizes["views"] if view["view"] == "device"))
        raise KeyError(f"{source} -> {size} px")

    return read


def _waiting(found: Plain) -> float:
    """Percent of the student's time, between epochs too."""
    stage = found["stages"]["student"]
    return 100 * float(stage["waiting_share"] + stage["waiting_share_between_epochs"])


def _ranks(found: Plain) -> float:
    return float(found["times_one_rank"])


LOOP, SAM_STEP = "Lightning loop over a bare loop", "SAM step over plain step, ResNet"
VIEWS = "device views over timm's in workers, images/s"
TARGETS = (
    Target(f"{LOOP}, CPU, student", "cpu_training", 1.03, False, _stage("student", "lightning_over_bare")),
    Target(f"{LOOP}, CPU, teacher", "cpu_training", 1.03, False, _stage("teacher", "lightning_over_bare")),
    Target(f"{LOOP}, GPU, ViT-B", "gpu_student", 1.03, False, _stage("student", "lightning_over_bare")),
    Target(f"{LOOP}, GPU, ResNet-32", "gpu_teacher", 1.03, False, _stage("teacher", "lightning_over_bare")),
    Target(f"{SAM_STEP}, CPU", "cpu_training", 2.1, False, _sam),
    Target(f"{SAM_STEP}, GPU", "gpu_teacher", 2.1, False, _sam),
    Target(f"{VIEWS}, 2 cores, 224 px", "cpu_views", 1.0, True, _views(32, 224)),
    Target(f"{VIEWS}, 2 cores, 32 px", "cpu_views", 3.0, True, _views(32, 32)),
    Target(f"{VIEWS}, GPU and 16 workers, 224 px", "gpu_views", 8.0, True, _views(32, 224)),
    Target(
        "student epoch on the CPU, bf16 and device views over fp32 and timm's, time",
        "cpu_epoch",
        0.67,
        False,
        lambda found: float(found["time_share"]),
    ),
    Target("student ViT-B/16, GPU: waiting, % of the time", "gpu_student", 3.0, False, _waiting),
    Target(
        "student ViT-B/16, GPU: % of the measured matrix peak",
        "gpu_student",
        35.0,
        True,
        lambda found: 100 * _stage("student", "share_of_peak", "whole")(found),
    ),
    Target(
        "ResNet-32 with SAM, GPU: resident and compiled over eager fed by 16 workers, images/s",
        "gpu_teacher_fed_by_workers",
        5.0,
        True,
        lambda found: 1 / float(found["time_share"]),
    ),
    Target("two CPU ranks over one, a core each, equal micro-batches, images/s", "cpu_ranks", 1.8, True, _ranks),
    Target(
        "index of 10 million files, 8 workers: PSS above the same run on nearly none, GB",
        "index",
        1.5,
        False,
        lambda found: float(found["workers_pss_mib"]) * _MIB / 1e9,
    ),
)


def measure_all(config: DictConfig) -> Plain:
    """Runs every job that this machine can run, one after the other; one that fails does not stop the others.

    What each found is written at once, beside what is known so far.

    Returns:
        For each target its figure and whether it was reached, or why there is none; for each job its seconds, its
        file and what went wrong, if anything did.

    Raises:
        ConfigError: a job that was named is none.
    """
    output, chosen = Path(config.output), _chosen(config)
    folder = output.with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    results: dict[str, Plain] = {}
    jobs: dict[str, Plain] = {}
    for job in JOBS:
        if job not in chosen or not can_run(job):
            jobs[job.name] = {"failed": NOT_YET, "seconds": None, "file": None}
            continue
        began = time.perf_counter()
        found, failed = run_job(job, merged(job.words, _of_user()), folder)
        if found is not None:
            results[job.name] = found
        file = None if found is None else str(folder / f"{job.name}.json")
        jobs[job.name] = {"failed": failed or None, "seconds": round(time.perf_counter() - began, 1), "file": file}
        write_json(output, {"part": config.part, **_summary(results, jobs), "machine": machine()})
    return _summary(results, jobs)


def _chosen(config: DictConfig) -> Sequence[Job]:
    """The jobs that are wanted."""
    names = None if config.all.jobs is None else list(config.all.jobs)
    known = [job.name for job in JOBS]
    if names == []:
        raise ConfigError(f"all.jobs=[] names no job; type all.jobs=null for all, or some of: {', '.join(known)}.")
    for name in names or ():
        if name not in known:
            raise ConfigError(f"all.jobs has {name!r}, which is none; {nearest(str(name), known)}")
    return [job for job in JOBS if names is None or job.name in names]


def _of_user() -> list[str]:
    """The overrides that go on to every job."""
    words = HydraConfig.get().overrides.task
    return [word for word in words if key_of(word) not in OWN_KEYS and not key_of(word).startswith("all.")]


def _summary(results: dict[str, Plain], jobs: dict[str, Plain]) -> Plain:
    return {"targets": [judge(target, results, jobs) for target in TARGETS], "jobs": jobs}


def judge(target: Target, results: dict[str, Plain], jobs: dict[str, Plain]) -> Plain:
    """One target: what is wanted, the figure and whether it was reached, None where there is no figure."""
    known: Plain = {"what": target.what, "wanted": target.wanted, "job": target.job}
    if target.job not in results:
        reason = jobs.get(target.job, {}).get("failed") or NOT_YET
        return {**known, "measured": None, "reached": None, "why": reason}
    try:
        value = target.read(results[target.job])
    except (LookupError, TypeError, StopIteration) as error:
        return {**known, "measured": None, "reached": None, "why": f"the job did not tell ({error})"}
    return {**known, "measured": round(value, 4), "reached": target.is_reached(value), "why": None}


def targets_table(found: Plain) -> Sequence[Sequence[str]]:
    """The targets, for a table with a head."""
    words = {True: "yes", False: "NO", None: ""}
    rows = [("to reach", "wanted", "measured", "reached")]
    for row in found["targets"]:
        measured = row["why"] if row["measured"] is None else f"{row['measured']:.3g}"
        rows.append((row["what"], row["wanted"], measured, words[row["reached"]]))
    for name, job in found["jobs"].items():
        if job["failed"] not in (None, NOT_YET):
            rows.append((f"job {name} failed", "", job["failed"], ""))
    return rows
