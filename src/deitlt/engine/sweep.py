"""`deitlt train -m`: Hydra's sweepers and launchers run the jobs, each a process of its own. No torch here.

A job is `deitlt train` with its own overrides, `paths.output_dir` and `resume=auto`; so one that was interrupted goes
on, one that finished is found and skipped, and one that is killed is a row of the table.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from shlex import join, quote

from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console

from deitlt.config import config_dir
from deitlt.config.checks import check_values, explain, holds_out
from deitlt.config.compose import SWEEP_JOB, plain_content, quoted
from deitlt.config.trust import refuse_absent_targets, refuse_strange_targets, trust
from deitlt.engine.objective import accuracies_at, check_objective, logged_as, objective_metric, objective_value
from deitlt.errors import FAILED, INTERRUPTED, OK, ConfigError, Preempted, TrainingError
from deitlt.reports.sweep import FINISHED, JOB_FILE, PRUNED, RUNNING, SweepJob, read_job, read_jobs

RANK_VARIABLES = ("LOCAL_RANK", "RANK", "WORLD_SIZE", "NODE_RANK", "GROUP_RANK", "MASTER_ADDR", "MASTER_PORT")
NOT_OF_A_JOB = ("paths.", "hydra.", "hydra/")  # say where it lies or what runs it
FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
LOST_WORKER = ("TerminatedWorkerError", "UncompletedJobError", "FailedJobError")  # joblib's, submitit's
NAME = "sweep"  # of the files in a sweep's folder


def run_sweep(words: list[str], run: Callable[[list[str]], int]) -> int:
    """Run the jobs of a sweep, or those that are left of it; then its table, its picture and its best command.

    Args:
        words: what was typed after `deitlt train`.
        run: has Hydra run them.

    Returns:
        The exit code: 0, or what the worst job came to.

    Raises:
        UserError: found before the first job.
    """
    folder, direction = check_sweep(words)
    flags, overrides = _sorted(words)
    places = _places(flags)
    again = f"type the same command with paths.sweep_dir={quote(str(folder))} to go on"
    try:
        code = run([*flags, *overrides, f"hydra.sweep.dir={quoted(folder)}"])  # as Hydra's parser wants them
    except (KeyboardInterrupt, Preempted):
        conclude_sweep(folder, direction, places, Console())
        sys.stderr.write(f"deitlt: stopped; {again}\n")
        raise
    except Exception as error:
        if type(error).__name__ not in LOST_WORKER:
            raise
        conclude_sweep(folder, direction, places, Console())
        raise TrainingError(f"A worker of the launcher was killed ({type(error).__name__}); {again}.") from error
    return max(int(code), conclude_sweep(folder, direction, places, Console()))


def check_sweep(words: list[str]) -> tuple[Path, str]:
    """Compose every value that a job may get, so that a wrong one is found before the first job.

    Returns:
        The sweep's folder, and which of two values is better: maximize | minimize.

    Raises:
        ConfigError: an unknown key, choice or value; a part that is not there or may not be called; a search that would
            choose by the test set.
    """
    flags, overrides = _sorted(words)
    places = _places(flags)
    searched = [f"hydra.searchpath=[{','.join(quoted(f'file://{place}') for place in places)}]"] if places else []
    try:
        with initialize_config_dir(str(config_dir()), version_base="1.3"):
            return _check(overrides, searched, places)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(explain(error, "train", overrides)) from error
    finally:
        HydraConfig.instance().cfg = None


def _check(overrides: list[str], searched: list[str], places: list[str]) -> tuple[Path, str]:
    parser = OverridesParser.create()
    parsed = parser.parse_overrides(overrides)
    fixed = [override.input_line or "" for override in parsed if not override.is_sweep_override()]
    master = compose("train", overrides=[*fixed, *searched], return_hydra_config=True)
    params = [f"{key}={value}" for key, value in (OmegaConf.select(master, "hydra.sweeper.params") or {}).items()]
    swept = {override.get_key_element(): override for override in [*parser.parse_overrides(params), *parsed]}
    values = {key: list(_values(override)) for key, override in swept.items()}
    first = {key: words[0] for key, words in values.items()}
    for key, words in values.items():
        for word in words[1:]:
            _check_job([*(value for name, value in first.items() if name != key), word, *searched], places)
    job, config = _check_job([*first.values(), *searched], places)
    check_objective(config)
    searches = "optuna" in str(job.hydra.sweeper._target_)
    if searches and find_spec("optuna") is None:
        raise ConfigError("A search needs Optuna, which is not installed; type pip install 'deitlt[sweep]'.")
    if searches and not holds_out(config.data) and not config.objective.metric:
        raise ConfigError(
            "A search by Optuna chooses on the validation split, and there is none; type data.val_fraction=0.1, or "
            "objective.metric=student/avg/balanced to choose on the TEST set."
        )
    return Path(str(job.hydra.sweep.dir)).expanduser().absolute(), str(config.objective.direction)


def _check_job(overrides: list[str], places: list[str]) -> tuple[DictConfig, DictConfig]:
    """One job's whole configuration, and that without Hydra's part, once its values were checked."""
    job = compose("train", overrides=overrides, return_hydra_config=True)
    HydraConfig.instance().set_config(job)
    config = job.copy()
    OmegaConf.set_struct(config, False)
    config.pop("hydra")
    check_values(config, "train")
    trust(config.trust, places)
    content = plain_content(config)
    refuse_strange_targets(content, "The configuration", resolved=False)
    refuse_absent_targets(content)
    return job, config


def _places(flags: list[str]) -> list[str]:
    """The user's own folders of configurations."""
    return [str(Path(place).absolute()) for flag, place in pairwise(flags) if flag == "--config-dir"]


def _values(override: Override) -> Iterator[str]:
    """The override with each of its values; an interval's ends stand for what lies between."""
    key = override.get_key_element()
    if not override.is_sweep_override():
        yield override.input_line or ""
    elif isinstance(interval := override.value(), IntervalSweep):
        yield from (f"{key}={end}" for end in (interval.start, interval.end))
    else:
        yield from (f"{key}={value}" for value in override.sweep_string_iterator())


def _sorted(words: list[str]) -> tuple[list[str], list[str]]:
    """The flags, with the user's own folders of configurations among them, and the overrides."""
    flags: list[str] = []
    overrides: list[str] = []
    rest = iter(words)
    for word in rest:
        flag, _, value = word.partition("=")
        if flag in ("--config-dir", "-cd"):
            flags += ["--config-dir", value or next(rest, "")]
        else:
            (flags if word.startswith("-") else overrides).append(word)
    return flags, overrides


def run_job(config: DictConfig) -> float | None:
    """Train the job that Hydra has composed, go on with it, or find it done.

    Returns:
        The number that the sweep compares; None where the job has none.

    Raises:
        ConfigError: another job lies in the folder.
        KeyboardInterrupt, Preempted: the sweep is to end, too.
    """
    hydra = HydraConfig.get()
    folder = Path(hydra.runtime.output_dir)
    overrides = [word for word in hydra.overrides.task if not word.startswith(NOT_OF_A_JOB)]
    if os.environ.get("SLURM_PROCID", "0") != "0":  # one of a job's ranks on Slurm; the first writes and tells
        _run(_command(overrides, folder))
        return None
    job = SweepJob(str(folder), overrides, RUNNING, objective_metric(config))
    known = read_job(folder)
    if known is not None and sorted(known.overrides) != sorted(overrides):
        raise ConfigError(
            f"{folder} holds the job {' '.join(known.overrides)}, and not {' '.join(overrides)}; type the sweep that "
            "was begun there, or another paths.sweep_dir=FOLDER."
        )
    done = known is not None and known.state in (FINISHED, PRUNED)
    line = f"job {folder.name}{', done before' if done else ''}: {' '.join(overrides)}"
    Console().out(line, highlight=False)
    if known is not None and done:
        return known.value
    _write(job)
    began = time.monotonic()
    code, said = _run(_command(overrides, folder))
    ended = _with_result(replace(job, seconds=round(time.monotonic() - began, 1)), code, said)
    _write(ended)
    if code == INTERRUPTED:
        raise KeyboardInterrupt
    if code == Preempted.CODE:
        raise Preempted()
    return ended.value


def _command(overrides: list[str], folder: Path) -> list[str]:
    """What to type for the job alone: it goes on, if an epoch of it was finished."""
    sources = HydraConfig.get().runtime.config_sources
    added = [word for source in sources if source.provider == "command-line" for word in ("--config-dir", source.path)]
    place = [f"paths.output_dir={quoted(folder)}", "resume=auto"]
    return [sys.executable, "-m", "deitlt", "train", *added, *overrides, *place]


_warned: set[str] = set()  # lines of jobs that came to their end


def _run(command: list[str]) -> tuple[int, str]:
    """Run a job in a session of its own; its exit code and what it complained of, which is passed on as it comes.

    What an earlier job warned of, too, is not passed on again.
    """
    said: list[str] = []
    environment = {name: value for name, value in os.environ.items() if name not in RANK_VARIABLES}
    environment |= {SWEEP_JOB: str(os.getpid()), "PYTHONSAFEPATH": "1"}  # no file where one stands is imported
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True) as child:
        assert child.stderr is not None
        with _signals_to(child):
            for line in child.stderr:
                if line not in _warned:
                    sys.stderr.write(line)
                said.append(line)
            code = child.wait()
    if code == OK:  # else a line may be part of an error, which is shown whole
        _warned.update(said)
    return code, "".join(said)


@contextmanager
def _signals_to(child: "subprocess.Popen[str]") -> Iterator[None]:
    """Pass on what asks this process to stop, and wait for the job's own end."""
    if threading.current_thread() is not threading.main_thread():
        yield  # a launcher's thread gets no signals
        return
    before = {number: signal.signal(number, lambda number, _: child.send_signal(number)) for number in FORWARDED}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def end_with_parent() -> None:
    """Have a job end when the process that started it was killed: nobody else would end it."""
    parent = os.environ.get(SWEEP_JOB)
    if parent is None:
        return

    def watch() -> None:
        while os.getppid() == int(parent):
            time.sleep(1)
        os.killpg(os.getpgrp(), signal.SIGKILL)

    if os.getppid() == int(parent):  # and not a rank that the job started
        threading.Thread(target=watch, name="parent-watch", daemon=True).start()


def _with_result(job: SweepJob, code: int, said: str) -> SweepJob:
    """The job with what its run found, or with the reason why it found nothing."""
    folder = Path(job.folder)
    if (metrics_file := folder / "metrics.json").exists():
        metrics = json.loads(metrics_file.read_text())
        value, accuracy = objective_value(metrics, job.metric), accuracies_at(metrics, job.metric)
        return replace(job, state=FINISHED, value=value, accuracy=accuracy)
    if code < 0:
        return replace(job, state="killed", reason=f"by {signal.Signals(-code).name}")
    if code in (INTERRUPTED, Preempted.CODE):
        return replace(job, state="interrupted" if code == INTERRUPTED else "preempted")
    if code == OK and (pruned := next(folder.glob("*/pruned.json"), None)) is not None:
        found = json.loads(pruned.read_text())
        value, epochs = found[logged_as(job.metric)[1]], found["epoch"]
        return replace(job, state=PRUNED, reason=f"after {epochs} epochs", value=value, epochs=epochs)
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return replace(job, state="failed", reason=lines[-1].removeprefix("deitlt: ") if lines else f"exit code {code}")


def _write(job: SweepJob) -> None:
    folder = Path(job.folder)
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".{JOB_FILE}"
    temporary.write_text(json.dumps(job.as_plain(), indent=2))
    temporary.replace(folder / JOB_FILE)


def best_command(job: SweepJob, places: Sequence[str] = ()) -> str:
    """What to type to train a job again, on its own, with the user's own folders of configurations."""
    flags = [word for place in places for word in ("--config-dir", place)]
    words = [word for word in job.overrides if not word.startswith(("sweep.", "objective."))]
    return join(["deitlt", "train", *flags, *words])


def conclude_sweep(folder: Path, direction: str, places: Sequence[str], console: Console) -> int:
    """Print the table of all jobs that lie in a sweep's folder, and write it and its picture there.

    Args:
        folder: the sweep's.
        direction: which of two values is better: maximize | minimize.
        places: the user's own folders of configurations, for the command.
        console: where it is printed.

    Returns:
        The exit code: 0, or 1 where a job failed or is not done, or none has a value. Nothing is written where no
        job began.
    """
    from deitlt.reports.sweep import best_job, jobs_line, ranked, sweep_markdown, sweep_table
    from deitlt.reports.tables import csv_text, terminal

    jobs = read_jobs(folder)
    if not jobs:
        return OK
    best = best_job(jobs, direction)
    command = None if best is None else best_command(best, places)
    plain = [job.as_plain() for job in ranked(jobs, direction)]
    content = json.dumps({"direction": direction, "best": command, "jobs": plain}, indent=2)
    texts = {
        "md": sweep_markdown(jobs, direction, command),
        "csv": csv_text(sweep_table(jobs, direction)),
        "json": content,
    }
    for ending, text in texts.items():
        (folder / f"{NAME}.{ending}").write_text(text)
    drawn = _draw(jobs, folder / f"{NAME}.png", direction)  # after the tables, which it must not cost
    refused = [job for job in jobs if job.state == "failed"]
    shown = [replace(job, reason=None) if job in refused else job for job in jobs]
    console.print(terminal(sweep_table(shown, direction)))
    lines = [f"job {Path(job.folder).name} failed: {job.reason}" for job in refused]
    lines += [jobs_line(jobs), f"best: {command}" if command else "no job has finished with a value"]
    lines.append(f"more: {folder / f'{NAME}.md'}, .csv, .json{', .png' if drawn else ''}")
    for line in lines:
        console.out(line, highlight=False)
    done = all(job.state in (FINISHED, PRUNED) for job in jobs)
    return OK if done and any(job.value is not None for job in jobs) else FAILED


def _draw(jobs: Sequence[SweepJob], path: Path, direction: str) -> bool:
    """The jobs that have a value as parallel coordinates; none where they differ in no setting."""
    from deitlt.reports.figures import save_figure
    from deitlt.reports.sweep import ranked, swept_keys
    from deitlt.reports.sweep_figure import parallel_coordinates
    from deitlt.tracking import drawing

    keys = swept_keys(jobs)
    drawn = [job for job in ranked(jobs, direction) if job.value is not None and set(keys) <= set(job.settings)]
    metrics = {job.metric for job in drawn}
    if not keys or not drawn:
        return False
    with drawing(path.name):
        figure = parallel_coordinates(
            {key: [job.settings[key] for job in drawn] for key in keys},
            [job.value for job in drawn if job.value is not None],
            f"{metrics.pop() if len(metrics) == 1 else 'accuracy'}, %",
            [job.state == PRUNED for job in drawn],
            direction,
        )
        save_figure(figure, path)
    return path.exists()
