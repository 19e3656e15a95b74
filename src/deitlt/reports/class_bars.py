"""Each answer's recall by class, from the most to the least frequent class: rows of a table of bars."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import mean
from typing import Final

from deitlt.longtail import by_frequency
from deitlt.reports.evidence import Evidence

# Series of per_class.csv -> its look. The moving averages' and fusions' bars would hide the experts'.
SERIES: Final = {"CLS": "cls", "DIST": "dist", "AVG": "avg", "teacher": "teacher", "plain ViT": "vit"}
FEW_CLASSES: Final = 20  # up to here each class has a row of its own
_ROWS: Final = 24  # about so many rows of several classes where there are more
_EXTREMES: Final = 8


@dataclass(frozen=True)
class BarRow:
    """One class, or several neighbours. recalls: series -> mean recall in percent, None where none was tested."""

    label: str
    images: str
    recalls: Mapping[str, float | None]


@dataclass(frozen=True)
class ClassBars:
    """groups: 'head', 'mid', 'tail', or '' -> rows. gains: classes by DIST's lead over CLS in points."""

    name: str
    series: Mapping[str, str]
    groups: Sequence[tuple[str, Sequence[BarRow]]]
    classes_a_row: int
    gains: Sequence[tuple[str, int, float]]
    losses: Sequence[tuple[str, int, float]]


def class_bars(name: str, runs: Sequence[Evidence]) -> ClassBars | None:
    """The table of one experiment, its recalls the means over its seeds; None where none were written."""
    metrics = runs[0].metrics
    counts, names = metrics.get("counts") or [], metrics.get("class_names") or []
    series = {s: look for s, look in SERIES.items() if all(len(run.recalls.get(s, ())) == len(counts) for run in runs)}
    if not series or not counts:
        return None
    recalls = {s: _means([run.recalls[s] for run in runs]) for s in series}
    order = [int(c) for c in by_frequency(counts)]
    width = 1 if len(counts) <= FEW_CLASSES else -(-len(counts) // _ROWS)
    groups = []
    for group, members in _spans(order, metrics.get("groups") or {}):
        bins = [members[i : i + width] for i in range(0, len(members), width)]
        groups.append((group, [_row(bin_, counts, names, order, recalls) for bin_ in bins]))
    gains, losses = _extremes(recalls, counts, names) if width > 1 else ([], [])
    return ClassBars(name, series, groups, width, gains, losses)


def _means(rows: Sequence[Sequence[float | None]]) -> list[float | None]:
    return [_mean(values) for values in zip(*rows, strict=True)]


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return mean(known) if known else None


def _spans(order: Sequence[int], groups: Mapping[str, Sequence[int]]) -> Iterator[tuple[str, list[int]]]:
    """Stretches of neighbours of one group."""
    group_of = {c: name for name, members in groups.items() for c in members}
    for group, members in groupby(order, key=lambda c: group_of.get(c, "")):
        yield group, list(members)


def _row(
    members: Sequence[int],
    counts: Sequence[int],
    names: Sequence[str],
    order: Sequence[int],
    recalls: Mapping[str, Sequence[float | None]],
) -> BarRow:
    means = {s: _mean([values[c] for c in members]) for s, values in recalls.items()}
    if len(order) <= FEW_CLASSES:
        return BarRow(names[members[0]], f"{counts[members[0]]:,}", means)
    first, last = order.index(members[0]) + 1, order.index(members[-1]) + 1
    most, least = counts[members[0]], counts[members[-1]]
    images = f"{most:,}" if most == least else f"{least:,} to {most:,}"
    return BarRow(f"{first:,} to {last:,}" if last > first else f"{first:,}", images, means)


def _extremes(
    recalls: Mapping[str, Sequence[float | None]], counts: Sequence[int], names: Sequence[str]
) -> tuple[list[tuple[str, int, float]], list[tuple[str, int, float]]]:
    """Classes with their training images where DIST leads CLS by most, and where CLS leads DIST by most."""
    if not {"CLS", "DIST"} <= recalls.keys():
        return [], []
    pairs = enumerate(zip(recalls["CLS"], recalls["DIST"], strict=True))
    leads = [(names[c], counts[c], d - k) for c, (k, d) in pairs if k is not None and d is not None]
    ranked = sorted(leads, key=lambda lead: -lead[2])
    gains = [lead for lead in ranked[:_EXTREMES] if lead[2] > 0]
    return gains, [lead for lead in ranked[::-1][:_EXTREMES] if lead[2] < 0]
