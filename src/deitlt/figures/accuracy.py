"""Which classes each model or token gets right, from the most to the least frequent class."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter

from deitlt.figures.style import (
    FAINT,
    FEW_CLASSES,
    group_colour,
    group_spans,
    house_style,
    label_classes,
    save_figure,
    series_style,
)
from deitlt.longtail import by_frequency

_Spans: TypeAlias = Sequence[tuple[str, int, int]]


def per_class_accuracy(
    recalls: Mapping[str, Sequence[float | None]],
    counts: Sequence[int],
    class_names: Sequence[str],
    groups: Mapping[str, Sequence[int]],
    path: Path,
    title: str,
) -> Path:
    """Draw each class's accuracy, one series a model or token, over the training counts.

    Up to 20 classes are dots over their names; more are lines, each a moving mean that never crosses the
    border of a group.

    Args:
        recalls: series -> [C] accuracies in percent; None where the class has no test image.
        counts: [C] training images of each class.
        class_names: [C].
        groups: 'head', 'mid', 'tail' -> class ids.
        path: the picture's file.
        title: such as 'CIFAR-10-LT, imbalance 100'.

    Returns:
        The path.
    """
    order = by_frequency(counts)
    spans = group_spans(order, groups)
    with house_style():
        figure = Figure(figsize=(10, 5.8), layout="constrained")
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[5, 1])
        shade_groups(upper, spans)
        values = {name: np.array(row, dtype=float)[order] for name, row in recalls.items()}
        (_dots if len(order) <= FEW_CLASSES else _lines)(upper, values, spans)
        _counts(lower, np.asarray(counts)[order], spans)
        _finish(upper, lower, [class_names[i] for i in order])
        figure.suptitle(title, x=0.01, ha="left", weight="bold", fontsize=12)
        return save_figure(figure, path)


def moving_mean(values: np.ndarray, window: int) -> np.ndarray:
    """Mean over a centred window that shrinks at both ends; NaN stays NaN and counts for no neighbour.

    Args:
        values: [N] with NaN for gaps.
        window: how many values a mean is of, an odd number.
    """
    known = ~np.isnan(values)
    inside = slice(window // 2, window // 2 + len(values))
    sums = np.convolve(np.where(known, values, 0.0), np.ones(window))[inside]
    numbers = np.convolve(known, np.ones(window))[inside]
    return np.where(known, sums / np.maximum(numbers, 1.0), np.nan)


def shade_groups(axes: Axes, spans: _Spans) -> None:
    """Lay each group's colour behind its classes and write its name above; spans: as `group_spans` gives."""
    for name, start, stop in spans:
        axes.axvspan(start - 0.5, stop - 0.5, color=group_colour(name), alpha=0.13, linewidth=0)
        axes.annotate(
            name,
            ((start + stop - 1) / 2, 1),
            xycoords=("data", "axes fraction"),
            xytext=(0, 5),
            textcoords="offset points",
            ha="center",
            weight="bold",
        )


def _dots(axes: Axes, values: Mapping[str, np.ndarray], spans: _Spans) -> None:
    """One dot a series and class, side by side so that equal accuracies do not hide each other."""
    for i, (name, row) in enumerate(values.items()):
        style = series_style(name, i)
        places = np.arange(len(row)) + (i - (len(values) - 1) / 2) * 0.7 / max(len(values), 1)
        axes.vlines(places, 0, row, color=style.colour, linewidth=1.6, alpha=0.35)
        axes.plot(
            places,
            row,
            style.marker,
            markersize=7,
            markeredgecolor="white" if style.line == "-" else style.colour,
            markerfacecolor=style.colour if style.line == "-" else "white",
            color=style.colour,
            label=name,
            clip_on=False,
        )


def _lines(axes: Axes, values: Mapping[str, np.ndarray], spans: _Spans) -> None:
    for i, (name, row) in enumerate(values.items()):
        style = series_style(name, i)
        for j, (_, start, stop) in enumerate(spans):
            smooth = moving_mean(row[start:stop], _window(len(row)))
            label = name if j == 0 else None
            axes.plot(range(start, stop), smooth, style.line, linewidth=1.8, color=style.colour, label=label)


def _window(classes: int) -> int:
    """An odd number of classes, about a twentieth of all: 5 of 100, 51 of 1,000."""
    return max(1, classes // 20) | 1


def _counts(axes: Axes, ordered: np.ndarray, spans: _Spans) -> None:
    """The training counts, faint: with their numbers where the classes are few."""
    few = len(ordered) <= FEW_CLASSES
    smallest, largest = max(int(ordered.min(initial=ordered[0])), 1), max(int(ordered[0]), 1)
    if largest >= 20 * smallest:
        axes.set_yscale("log")
    axes.set_ylim(smallest / 2 if largest >= 20 * smallest else 0, largest * 1.25)
    for name, start, stop in spans:
        look: dict[str, Any] = {"color": group_colour(name), "alpha": 0.5, "linewidth": 0}
        if few:
            bars = axes.bar(range(start, stop), ordered[start:stop], width=0.7, **look)
            axes.bar_label(bars, [f"{n:,}" for n in ordered[start:stop]], padding=1, fontsize=8, color=FAINT)
        else:
            edges = np.arange(start, stop + 1) - 0.5
            axes.stairs(ordered[start:stop], edges, baseline=axes.get_ylim()[0], fill=True, **look)
    axes.minorticks_off()
    axes.set_yticks([] if few else sorted({smallest, largest}))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.tick_params(labelcolor=FAINT, labelsize=8, axis="y")
    axes.spines["left"].set_visible(not few)
    axes.set_ylabel("training\nimages", color=FAINT, fontsize=8)


def _finish(upper: Axes, lower: Axes, names: Sequence[str]) -> None:
    few = len(names) <= FEW_CLASSES
    upper.set_ylabel("accuracy, %" if few else f"accuracy, %\n(moving mean of {_window(len(names))} classes)")
    upper.set_ylim(0, 100)
    upper.set_xlim(-0.5, len(names) - 0.5)
    upper.grid(axis="y")
    upper.tick_params(axis="x", length=0)
    upper.legend(loc="lower right", bbox_to_anchor=(1.0, 1.06), ncols=6, columnspacing=1.4, handletextpad=0.4)
    if few:
        label_classes(lower, names)
    else:
        lower.set_xlabel("class, from the most to the least frequent")
