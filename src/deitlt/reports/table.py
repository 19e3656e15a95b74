"""The table that a run ends with."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from deitlt.reports.rows import AccuracyRow, accuracy_rows, protocol_in_words

_GROUPS = ("head", "mid", "tail")
_SAME = 0.05  # percent; a balanced accuracy this near to `all` is the same number twice
_NOTHING = "-"


def results_table(metrics: Mapping[str, Any], title: str) -> Table:
    """The accuracies of a run in percent, a row a model and token, the best of each column bold.

    Args:
        metrics: what metrics.json holds.
        title: the data set, such as 'CIFAR-10-LT, imbalance 100'.

    Returns:
        Columns all, balanced (only where it differs from all), head, mid, tail and top-5 (as far as they
        were measured); the caption says which epoch was chosen, and how.
    """
    rows = accuracy_rows(metrics)
    columns = _columns(rows)
    protocol = metrics.get("protocol")
    table = Table(
        title=escape(f"{title}, protocol: {protocol}" if protocol else title),
        caption=f"top-1 accuracy in percent, best in bold; {protocol_in_words(protocol)}",
    )
    table.add_column("")
    for column in columns:
        table.add_column(column, justify="right")
    best = {column: _best(rows, column) for column in columns}
    for row in rows:
        table.add_row(row.label, *(_cell(row.accuracy.get(column), best[column]) for column in columns))
    return table


def group_sizes_line(metrics: Mapping[str, Any]) -> str:
    """How many classes and training images head, mid and tail have; empty where the run has no groups."""
    groups, counts = metrics.get("groups") or {}, metrics.get("counts") or []
    named = [name for name in _GROUPS if groups.get(name)]
    return "; ".join(
        f"{name}: {_plural(len(groups[name]), 'class', 'classes')},"
        f" {_plural(sum(counts[i] for i in groups[name]), 'image', 'images')}"
        for name in named
    )


def results_lines(metrics: Mapping[str, Any], folder: Path | None = None) -> list[str]:
    """The lines below the table: the groups' sizes, every difference from the recipe, the run's folder."""
    sizes = group_sizes_line(metrics)
    lines = [sizes] if sizes else []
    lines += [f"differs from the recipe: {difference}" for difference in metrics.get("recipe_differences") or []]
    return [*lines, f"run folder: {folder}"] if folder else lines


def _columns(rows: Sequence[AccuracyRow]) -> list[str]:
    measured = {name for row in rows for name in row.accuracy}
    differs = any(
        abs(row.accuracy["balanced"] - row.accuracy["all"]) > _SAME
        for row in rows
        if {"all", "balanced"} <= row.accuracy.keys()
    )
    top = sorted(name for name in measured if name.startswith("top"))
    wanted = ["all", *(["balanced"] if differs else []), *_GROUPS]
    return [name for name in wanted if name in measured] + top


def _best(rows: Sequence[AccuracyRow], column: str) -> str:
    """The greatest number as it is printed, so that what reads equal is bold alike."""
    values = [row.accuracy[column] for row in rows if column in row.accuracy]
    return f"{max(values):.1f}" if values else _NOTHING


def _cell(value: float | None, best: str) -> str:
    text = _NOTHING if value is None else f"{value:.1f}"
    return f"[bold]{text}[/bold]" if text == best else text


def _plural(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"
