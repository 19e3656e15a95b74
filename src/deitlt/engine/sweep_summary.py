"""What a sweep ends with: one table, a picture of it, and the command of its best job."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from shlex import join

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from deitlt.engine.run_folder import write_json, write_text
from deitlt.errors import FAILED, OK
from deitlt.reports.figures import save_figure
from deitlt.reports.sweep import (
    FINISHED,
    PRUNED,
    SweepJob,
    best_job,
    jobs_line,
    ranked,
    read_jobs,
    sweep_markdown,
    sweep_table,
    swept_keys,
)
from deitlt.reports.sweep_figure import parallel_coordinates
from deitlt.reports.tables import csv_text, terminal
from deitlt.tracking import drawing

NAME = "sweep"  # of its files
UNBOUND = 10_000  # columns
REFUSED = "failed"  # the state of a job with a sentence for a reason
NOT_OF_A_RUN = ("sweep=", "sweep.", "objective.")


def conclude_sweep(folder: Path, direction: str, settings: Sequence[str], console: Console) -> int:
    """Print the table of all jobs that lie in a sweep's folder, and write it and its picture there.

    Args:
        folder: of the sweep.
        direction: maximize | minimize.
        settings: what the sweep's own file sets of a run, as overrides.
        console: where to print.

    Returns:
        The exit code: 0, or 1 where a job failed or is not done, or none has a value. Nothing is written where no
        job began.
    """
    jobs = read_jobs(folder)
    if not jobs:
        return OK
    best = best_job(jobs, direction)
    command = None if best is None else best_command(best, settings)
    write_text(folder / f"{NAME}.md", sweep_markdown(jobs, direction, command))
    write_text(folder / f"{NAME}.csv", csv_text(sweep_table(jobs, direction)))
    plain = [job.as_plain() for job in ranked(jobs, direction)]
    write_json(folder / f"{NAME}.json", {"direction": direction, "best": command, "jobs": plain})
    picture = None
    with drawing(f"{NAME}.png"):  # after the tables, which it must not cost
        picture = draw_sweep(jobs, folder / f"{NAME}.png", direction)
    console.print(_fitting_table(jobs, direction, console))
    lines = [*_failures(jobs), jobs_line(jobs), f"best: {command}" if command else "no job has finished with a value"]
    lines.append(f"more: {folder / f'{NAME}.md'}, .csv, .json{'' if picture is None else ', .png'}")
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    done = all(job.state in (FINISHED, PRUNED) for job in jobs)
    return OK if done and any(job.value is not None for job in jobs) else FAILED


def _fitting_table(jobs: Sequence[SweepJob], direction: str, console: Console) -> Table:
    """The table for a narrow terminal: sentences stay out of it, keys break between their words, lines give way."""
    table = terminal(sweep_table([replace(j, reason=None) if j.state == REFUSED else j for j in jobs], direction))
    for column in table.columns:
        column.header = re.sub(r"(?<=[./_])(?=.)", "\n", str(column.header))
    if console.measure(table, options=console.options.update(width=UNBOUND)).maximum > console.width:
        table.box, table.padding = SIMPLE, (0, 0)
    return table


def _failures(jobs: Sequence[SweepJob]) -> Iterator[str]:
    """A line for each job that failed, with its sentence."""
    for job in jobs:
        if job.state == REFUSED:
            yield f"job {Path(job.folder).name} failed: {job.reason}"


def best_command(job: SweepJob, settings: Sequence[str]) -> str:
    """What to type to train a job again, on its own."""
    own = [word for word in job.overrides if not word.startswith(NOT_OF_A_RUN)]
    return join(["deitlt", "train", *settings, *own])


def draw_sweep(jobs: Sequence[SweepJob], path: Path, direction: str) -> Path | None:
    """The jobs that have a value as parallel coordinates; None where they differ in no setting."""
    keys = swept_keys(jobs)
    drawn = [job for job in ranked(jobs, direction) if job.value is not None and set(keys) <= set(job.settings)]
    metrics = {job.metric for job in drawn}
    if not keys or not drawn:
        return None
    figure = parallel_coordinates(
        {key: [job.settings[key] for job in drawn] for key in keys},
        [job.value for job in drawn if job.value is not None],
        f"{metrics.pop() if len(metrics) == 1 else 'accuracy'}, %",
        [job.state == PRUNED for job in drawn],
        direction,
    )
    return save_figure(figure, path)
