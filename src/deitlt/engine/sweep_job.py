"""One job of a sweep, in a process of its own: whatever becomes of it, the sweep goes on."""

import importlib
import json
import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from rich.console import Console

from deitlt.config.checks import check_values
from deitlt.engine.gpu_shares import own_gpus
from deitlt.engine.objective import accuracies_at, logged_as, objective_metric, objective_value
from deitlt.engine.preemption import preemptible
from deitlt.engine.process_tree import ProcessTree
from deitlt.engine.processes import SWEEP_VARIABLE, TRIAL_VARIABLE, without_ranks
from deitlt.engine.run_folder import AUTO, RunFolder, write_json
from deitlt.engine.sweep_hosts import check_hosts, follows
from deitlt.engine.sweep_words import quoted
from deitlt.errors import ConfigError, Preempted, UserError, sentence
from deitlt.reports.sweep import FINISHED, JOB_FILE, PRUNED, RUNNING, SweepJob, read_job

NOT_OF_A_JOB = ("paths.", "sweep.trial=", "hydra.", "hydra/")  # say where it lies or what runs it
INTERRUPTED, PREEMPTED = "interrupted", "preempted"  # the sweep is to end, too
STOPPED = {130: INTERRUPTED, Preempted.CODE: PREEMPTED}


def run_job(config: DictConfig) -> float | None:
    """Train the job that Hydra has composed, go on with it, or find it done.

    Returns:
        The number that the sweep compares, for a sweeper that learns from it; None where the job has none.

    Raises:
        ConfigError: another job lies in the folder.
        KeyboardInterrupt, Preempted: the sweep is to end, too.
    """
    run = RunFolder.of_job(config)
    job = SweepJob(str(run.path), own_overrides(), RUNNING, objective_metric(config))
    known = read_job(run.path)
    # A search that goes on names the parameters of a trial that was begun in another order.
    if known is not None and sorted(known.overrides) != sorted(job.overrides):
        raise ConfigError(
            f"{run.path} holds the job {' '.join(known.overrides)}, and not {' '.join(job.overrides)}; type the sweep "
            "that was begun there, or another paths.sweep_dir=FOLDER."
        )
    if known is not None and known.state in (FINISHED, PRUNED):
        _say(f"job {run.path.name}, done before: {' '.join(job.overrides)}")
        return known.value
    _say(f"job {run.path.name}: {' '.join(job.overrides)}")
    if follows(HydraConfig.get().launcher):
        _train(config, run, job)
        return None  # however it ended: Slurm may kill the first host's task, which requeues the job, for an error here
    _write(run, job)
    began = time.monotonic()
    ended = _train(config, run, job)
    known = _concluded(run, replace(ended, seconds=round(time.monotonic() - began, 1)))
    _write(run, known)
    _end_too(ended)
    return known.value


def _end_too(job: SweepJob) -> None:
    """Raise what stopped the job, which may have had its result already: nobody wants the next one then."""
    if job.state == INTERRUPTED:
        raise KeyboardInterrupt
    if job.state == PREEMPTED:
        raise Preempted()


def _say(line: str) -> None:
    Console().print(line, markup=False, highlight=False, soft_wrap=True)


def own_overrides() -> list[str]:
    """What this job was told, without where it lies and what runs it."""
    return [word for word in HydraConfig.get().overrides.task if not word.startswith(NOT_OF_A_JOB)]


def _train(config: DictConfig, run: RunFolder, job: SweepJob) -> SweepJob:
    """Train the job, unless it was started on more hosts than it has: only the first job was looked at before."""
    try:
        check_hosts(config, HydraConfig.get().launcher)
    except ConfigError as error:
        return _refused(job, error)
    return (_train_apart if config.sweep.isolated else _train_here)(config, run, job)


def _refused(job: SweepJob, error: UserError) -> SweepJob:
    sys.stderr.write(f"deitlt: {sentence(error)}\n")
    return replace(job, state="failed", reason=sentence(error))


def _train_here(config: DictConfig, run: RunFolder, job: SweepJob) -> SweepJob:
    """Train in this process, which is quick to begin; what ends it ends the sweep."""
    config = config.copy()
    config.resume = AUTO
    try:
        check_values(config, "train")
        importlib.import_module("deitlt.commands.train").main(config)
    except UserError as error:
        return _refused(job, error)
    except KeyboardInterrupt:
        return replace(job, state=INTERRUPTED)
    except Preempted:
        return replace(job, state=PREEMPTED)
    return job


def _train_apart(config: DictConfig, run: RunFolder, job: SweepJob) -> SweepJob:
    """Train in a fresh process; what it complains of is passed on when it has ended."""
    command = [sys.executable, "-m", "deitlt", "train", *_words(run, job)]
    environment = without_ranks() | {SWEEP_VARIABLE: str(os.getpid()), TRIAL_VARIABLE: json.dumps(_trial(config))}
    try:
        with preemptible(), own_gpus(Path(HydraConfig.get().sweep.dir), config) as gpus:
            tree = ProcessTree(command, environment | gpus)
            code = tree.wait()
    except (KeyboardInterrupt, Preempted) as stopped:
        return replace(job, state=INTERRUPTED if isinstance(stopped, KeyboardInterrupt) else PREEMPTED)
    sys.stderr.write(tree.errors)
    return _ended(job, code, tree.errors)


def _ended(job: SweepJob, code: int, errors: str) -> SweepJob:
    """The job by its process's exit code and what that complained of last."""
    if code == 0:
        return job
    if code < 0:
        return replace(job, state="killed", reason=f"by {signal.Signals(-code).name}")
    if code in STOPPED:
        return replace(job, state=STOPPED[code])
    said = [line.strip() for line in errors.splitlines() if line.strip()]
    return replace(job, state="failed", reason=said[-1].removeprefix("deitlt: ") if said else f"exit code {code}")


def _words(run: RunFolder, job: SweepJob) -> list[str]:
    """What to type for the job, whether it is to begin or to go on; the same in each of its ranks."""
    sources = HydraConfig.get().runtime.config_sources
    added = [source.path for source in sources if source.provider == "command-line"]
    flags = [word for path in added for word in ("--config-dir", path)]
    return [*flags, *job.overrides, f"paths.output_dir={quoted(run.path)}", f"resume={AUTO}"]


def _trial(config: DictConfig) -> dict[str, Any] | None:
    """What the stage that the search judges has to know of its trial; None outside a search that prunes."""
    if config.sweep.trial is None:
        return None
    stage, metric = logged_as(objective_metric(config))
    sweeper = HydraConfig.get().sweeper
    names = {"storage": str(sweeper.storage), "study": sweeper.study_name, "number": config.sweep.trial}
    return {"stage": stage, "metric": metric, **names, **config.sweep.prune}


def _concluded(run: RunFolder, job: SweepJob) -> SweepJob:
    """The job with what its run found."""
    if run.metrics.exists():
        metrics = json.loads(run.metrics.read_text())
        value, accuracy = objective_value(metrics, job.metric), accuracies_at(metrics, job.metric)
        return replace(job, state=FINISHED, reason=None, value=value, accuracy=accuracy)
    if run.pruned is not None and job.state == RUNNING:
        found = json.loads(run.pruned.read_text())
        value = found[logged_as(job.metric)[1]]
        epochs = found["epoch"]
        return replace(job, state=PRUNED, reason=f"after {epochs} epochs", value=value, epochs=epochs)
    assert job.state != RUNNING, "a job that ends well has found something"
    return job


def _write(run: RunFolder, job: SweepJob) -> None:
    write_json(run.path / JOB_FILE, job.as_plain())
