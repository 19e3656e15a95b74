"""Means over seeds, and how they are written in Markdown."""

from collections.abc import Mapping, Sequence
from statistics import mean, stdev
from typing import NamedTuple


class Score(NamedTuple):
    """Mean over seeds in percent, and the sample standard deviation; None for a single seed."""

    mean: float
    std: float | None


def score_of(column: str, rows: Sequence[Mapping[str, float]]) -> Score | None:
    """The score of one column over the seeds' rows; None where no row measured it."""
    values = [row[column] for row in rows if column in row]
    if not values:
        return None
    return Score(mean(values), stdev(values) if len(values) > 1 else None)


def score_text(score: Score | None) -> str:
    """`86.1 ± 1.2`, `86.1` for a single seed, `-` for none."""
    if score is None:
        return "-"
    return f"{score.mean:.1f}" if score.std is None else f"{score.mean:.1f} ± {score.std:.1f}"


def markdown_row(cells: Sequence[str]) -> str:
    """One line of a Markdown table; a bar in a cell stays a bar."""
    safe = [cell.replace("|", "\\|") for cell in cells]
    return f"| {' | '.join(safe)} |"
