"""Many runs as one table: means and standard deviations over seeds."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from deitlt.errors import ConfigError
from deitlt.reports.data_sets import by_data
from deitlt.reports.rows import accuracy_rows, protocol_in_words
from deitlt.reports.runs import Run
from deitlt.reports.scores import Score, markdown_row, score_of, score_text

_COLUMNS = ("all", "head", "mid", "tail")


@dataclass(frozen=True)
class SummaryRow:
    """One token of one experiment over its seeds.

    scores: 'all', 'head', 'mid', 'tail' -> score; absent where no run measured it. seeds: number of runs.
    """

    experiment: str
    part: str
    token: str
    label: str
    scores: dict[str, Score]
    seeds: int


def summary_rows(runs: Sequence[Run]) -> list[SummaryRow]:
    """A row for each experiment, part and token, over the seeds.

    Runs of one experiment with the same seed differ in something else: they get rows of their own, named by
    their folders, for a mean over them would say nothing about seeds. So do runs of different protocols.

    Raises:
        ConfigError: the runs are of different data, and their numbers do not belong in one table.
    """
    _check_same_data(runs)
    names = run_names(runs)
    gathered: dict[tuple[str, str, str, str], list[dict[str, float]]] = {}
    for run, name in zip(runs, names, strict=True):
        for row in accuracy_rows(run.metrics):
            key = (name, row.part, row.token, row.label)
            gathered.setdefault(key, []).append(dict(row.accuracy))
    return [
        SummaryRow(*key, scores={c: s for c in _COLUMNS if (s := score_of(c, rows))}, seeds=len(rows))
        for key, rows in gathered.items()
    ]


def summary_markdown(runs: Sequence[Run]) -> str:
    """A Markdown table for each data set, `86.1 ± 1.2` over seeds, with the protocol in words under it."""
    parts = by_data(runs)
    if len(parts) == 1:
        return _markdown(runs)
    return "\n".join(f"## {title}\n\n{_markdown(found)}" for title, found in parts.items())


def _markdown(runs: Sequence[Run]) -> str:
    """The table of runs of one data set, and the words under it."""
    lines = [markdown_row(["run", *_COLUMNS, "seeds"]), markdown_row(["---", *["---:"] * (len(_COLUMNS) + 1)])]
    for row in summary_rows(runs):
        scores = [score_text(row.scores.get(column)) for column in _COLUMNS]
        lines.append(markdown_row([f"{row.experiment}, {row.label}", *scores, str(row.seeds)]))
    protocols = "; ".join(protocol_in_words(protocol) for protocol in dict.fromkeys(r.protocol for r in runs))
    note = f"Top-1 accuracy in percent, mean ± sample standard deviation over seeds. Protocol: {protocols}."
    changed = [f"- changed recipe {i}: {'; '.join(c)}" for i, c in enumerate(changed_recipes(runs), start=1)]
    return "\n".join([*lines, "", note, *(["", *changed] if changed else []), ""])


def _check_same_data(runs: Sequence[Run]) -> None:
    for run in runs[1:]:
        for key, what in (("class_names", "classes"), ("counts", "training images per class")):
            if run.metrics.get(key) != runs[0].metrics.get(key):
                raise ConfigError(
                    f"{runs[0].folder} ({_data(runs[0])}) and {run.folder} ({_data(run)}) differ in their {what},"
                    " so one table cannot compare them; give `deitlt report` the runs of one data set and one"
                    " data.imbalance_factor at a time"
                )


def _data(run: Run) -> str:
    counts = run.metrics.get("counts") or []
    return f"{len(counts):,} classes, {sum(counts):,} images"


def run_names(runs: Sequence[Run]) -> list[str]:
    """Each run's name in the table, with protocol and folder added where the name alone would mislead."""
    mixed = len({run.protocol for run in runs}) > 1
    changed = changed_recipes(runs)
    same = Counter(_identity(run) for run in runs)
    names = []
    for run in runs:
        extra = [run.protocol] if mixed else []
        if run.changes:
            extra.append(f"changed recipe {changed.index(run.changes) + 1}")
        if same[_identity(run)] > 1:
            extra.append(os.path.relpath(run.folder, os.path.commonpath([r.folder for r in runs])))
        names.append(f"{run.experiment} ({', '.join(extra)})" if extra else run.experiment)
    return names


def changed_recipes(runs: Sequence[Run]) -> list[tuple[str, ...]]:
    """The different sets of changes among the runs, numbered from 1 in the table and told under it."""
    return list(dict.fromkeys(run.changes for run in runs if run.changes))


def _identity(run: Run) -> tuple[object, ...]:
    """What no two runs of a mean may share. Equal folder names alone do not make one experiment."""
    seed = run.seed if run.metrics.get("experiment") else None
    return run.experiment, run.protocol, seed, run.changes
