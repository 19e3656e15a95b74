"""The jobs of a sweep as one table, the best first."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from deitlt.reports.tables import Cell, Row, Table, markdown

JOB_FILE = "job.json"  # in a job's folder: what it was to do, and how it ended
FINISHED, PRUNED, RUNNING = "finished", "pruned", "running"
_GROUPS = ("head", "mid", "tail")
_DIGITS = 8  # nobody types more of a number


@dataclass(frozen=True)
class SweepJob:
    """One job of a sweep.

    folder: of its run. overrides: what it was told, as typed. state: 'finished', 'pruned' (by an Optuna search),
    'failed', 'killed', 'preempted', or 'running', also where what started it is gone. reason: of a failure. metric:
    path into metrics.json that jobs are compared by. value: what stands there, of a pruned job what it was stopped
    for; None where it has none. accuracy: 'head', ... -> percent, of the same split, stage and token. seconds: it took.
    epochs: after which a pruned job was stopped.
    """

    folder: str
    overrides: list[str]
    state: str
    metric: str
    reason: str | None = None
    value: float | None = None
    accuracy: dict[str, float] = field(default_factory=dict)
    seconds: float | None = None
    epochs: int | None = None

    @property
    def settings(self) -> dict[str, str]:
        """Key -> value of each override; +KEY is KEY, and ~KEY has none."""
        pairs = (override.partition("=") for override in self.overrides)
        return {key.lstrip("+~"): value for key, _, value in pairs}

    def as_plain(self) -> dict[str, Any]:
        """The content of its file."""
        return asdict(self)


def read_job(folder: Path) -> SweepJob | None:
    """The job whose run lies in the folder; None where there is none, or its file cannot be read."""
    try:
        return SweepJob(**json.loads((folder / JOB_FILE).read_text()))
    except (OSError, TypeError, ValueError):
        return None


def read_jobs(folder: Path) -> list[SweepJob]:
    """Every job in or below a sweep's folder, in the order in which they were numbered."""
    jobs = [job for file in folder.rglob(JOB_FILE) if (job := read_job(file.parent)) is not None]
    return sorted(jobs, key=lambda job: [(len(part), part) for part in Path(job.folder).parts])  # 2 before 10


def swept_keys(jobs: Sequence[SweepJob]) -> list[str]:
    """The keys in whose values the jobs differ, in the order in which they were typed."""
    keys = dict.fromkeys(key for job in jobs for key in job.settings)
    return [key for key in keys if len({job.settings.get(key) for job in jobs}) > 1]


def ranked(jobs: Sequence[SweepJob], direction: str) -> list[SweepJob]:
    """Finished jobs with a value, the best first, equal ones in their order; then all others.

    Args:
        jobs: of one sweep.
        direction: maximize | minimize.
    """
    sign = -1.0 if direction == "maximize" else 1.0
    order = {FINISHED: 0, PRUNED: 1}

    def place(job: SweepJob) -> tuple[int, bool, float]:
        return order.get(job.state, 2), job.value is None, sign * (job.value or 0.0)

    return sorted(jobs, key=place)


def best_job(jobs: Sequence[SweepJob], direction: str) -> SweepJob | None:
    """The finished job with the best value, if any has one; a pruned one never is."""
    first = next(iter(ranked(jobs, direction)), None)
    return first if first is not None and first.state == FINISHED and first.value is not None else None


def sweep_table(jobs: Sequence[SweepJob], direction: str) -> Table:
    """The table of a sweep: swept keys, the metric and the groups beside it in percent, how each job ended."""
    keys, metrics = swept_keys(jobs), list(dict.fromkeys(job.metric for job in jobs))
    groups = [name for name in _GROUPS if any(name in job.accuracy for job in jobs)]
    name = metrics[0] if len(metrics) == 1 else "value"
    header = ["job", *keys, name, *(["of"] if len(metrics) > 1 else []), *groups, "seconds", "state"]
    best, rows = best_job(jobs, direction), []
    for job in ranked(jobs, direction):
        numbers = [_number(job.value), *([job.metric] if len(metrics) > 1 else [])]
        numbers += [_number(job.accuracy.get(group)) for group in groups]
        settings = [_short(job.settings.get(key, "")) for key in keys]
        state = job.state if job.reason is None else f"{job.state}: {job.reason}"
        texts = [*settings, *numbers, _number(job.seconds, 0), state]
        rows.append(Row(Path(job.folder).name, [Cell(text, best=job is best) for text in texts]))
    return Table(header, rows, "sweep, the best job first", left=("state", "of"))


def sweep_markdown(jobs: Sequence[SweepJob], direction: str, command: str | None) -> str:
    """The same as Markdown, with the best job's command."""
    lines = [*markdown(sweep_table(jobs, direction)), "", jobs_line(jobs)]
    return "\n".join([*lines, *(["", "The best job again:", "", f"    {command}"] if command else []), ""])


def jobs_line(jobs: Sequence[SweepJob]) -> str:
    """Where the jobs were measured, and how many came to what, finished ones first."""
    splits = {job.metric.startswith("val/") for job in jobs}
    where = "the validation split" if splits == {True} else "the TEST set" if splits == {False} else "different splits"
    states = Counter(sorted((job.state for job in jobs), key=lambda state: state != FINISHED))
    counted = ", ".join(f"{number} {state}" for state, number in states.items())
    return f"Accuracy in percent, on {where}. Jobs: {counted}."


def _short(word: str) -> str:
    """A number that a search drew, with four digits; anything else as it was typed."""
    try:
        return f"{float(word):.4g}" if len(word) > _DIGITS else word
    except ValueError:
        return word


def _number(value: float | None, digits: int = 1) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
