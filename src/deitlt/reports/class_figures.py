"""Figures by class, from the most to the least frequent: training images, accuracy, confusion."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, PowerNorm
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import StrMethodFormatter
from numpy.typing import NDArray

from deitlt.longtail import by_frequency
from deitlt.reports.figures import INK, PAPER, add_legend, canvas, group_colour, series_style, shorten, styled

FEW_CLASSES: Final = 20  # up to here each class has its name on the axis
MOST_CONFUSED: Final = 100  # classes; a picture of the confusion of more is a grey square
_LOG_FROM: Final = 20  # ratio of the largest to the smallest class from which an axis of counts is logarithmic
_SHARES: Final = LinearSegmentedColormap.from_list("shares", ["#ffffff", "#b9d3ea", "#3f7fb5", "#12345a"])
_DARK: Final = 35  # percent; from here on a cell is so dark that its number is white
_RANKED: Final = "class, from the most to the least frequent"

_Groups = Mapping[str, Sequence[int]]
_Spans = Sequence[tuple[str, int, int]]


@styled
def class_histogram(counts: Sequence[int], class_names: Sequence[str], groups: _Groups) -> Figure:
    """The training images of each class, sorted by frequency and coloured by group: the long tail itself.

    Args:
        counts: [C] training images of each class.
        class_names: [C]; on the axis where the classes are few.
        groups: 'head', 'mid', 'tail' -> class ids.
    """
    order = by_frequency(counts)
    ordered = np.asarray(counts)[order]
    smallest = int(ordered[-1]) if len(ordered) else 0
    ratio = f", largest to smallest {ordered[0] / smallest:.3g} : 1" if smallest else ""
    figure = canvas((7.5, 4.0), f"{ordered.sum():,} training images in {len(ordered):,} classes{ratio}")
    axes = figure.add_subplot()
    _count_bars(axes, ordered, group_spans(order, groups), len(ordered) <= FEW_CLASSES)
    axes.set_ylabel(f"training images{', log scale' if axes.get_yscale() == 'log' else ''}")
    axes.set_xlim(-0.6, len(ordered) - 0.4)
    if len(ordered) > FEW_CLASSES:
        axes.set_xlabel(_RANKED)
    else:
        _name_columns(axes, [shorten(class_names[i], 24) for i in order], 80)
    grouped = {int(i) for ids in groups.values() for i in ids}
    parts = {**groups, "in no group": [i for i in range(len(counts)) if i not in grouped]}
    sizes = {name: [counts[i] for i in ids] for name, ids in parts.items() if len(ids)}
    handles = [Patch(color=group_colour(name)) for name in sizes]
    axes.legend(handles, [_size(name, found) for name, found in sizes.items()], loc="upper right")
    return figure


@styled
def per_class_accuracy(
    recalls: Mapping[str, Sequence[float | None]],
    counts: Sequence[int],
    class_names: Sequence[str],
    groups: _Groups,
    title: str = "",
) -> Figure:
    """Each class's accuracy, one series a model or token.

    Up to 20 classes are rows of dots beside their names; more are lines over the training counts, each a moving mean
    that never crosses the border of a group.

    Args:
        recalls: series -> [C] accuracies in percent; None where the class has no test image.
        counts: [C] training images of each class.
        class_names: [C].
        groups: 'head', 'mid', 'tail' -> class ids.
        title: such as 'CIFAR-10-LT, imbalance 100'; '' for none.
    """
    order = by_frequency(counts)
    spans, few = group_spans(order, groups), len(order) <= FEW_CLASSES
    values = {name: np.array(row, dtype=float)[order] for name, row in recalls.items()}
    height = 0.9 + len(order) * max(0.3, 0.1 + 0.085 * len(values)) if few else 3.8
    figure = canvas((4.4, height + 0.3 * bool(title)), title)
    if few:
        axes = figure.add_subplot()
        _rows_of_dots(axes, values)
        _finish_rows(axes, spans, [class_names[i] for i in order], [counts[i] for i in order])
    else:
        axes, lower = figure.subplots(2, 1, sharex=True, height_ratios=[5, 1])
        window = max(1, len(order) // 20) | 1  # an odd number, about a twentieth of the classes: 5 of 100, 51 of 1,000
        _smooth_lines(axes, values, spans, window)
        _finish_smooth(axes, lower, np.asarray(counts)[order], spans, window)
    add_legend(figure, *axes.get_legend_handles_labels())
    return figure


@styled
def confusion_picture(
    images: NDArray[Any], counts: Sequence[int], class_names: Sequence[str], groups: _Groups, title: str
) -> Figure:
    """The share of each class's images that got each answer, classes sorted by frequency.

    Args:
        images: [C, C] images of a true class (row) by answer (column); C is at most `MOST_CONFUSED`.
        counts: [C] training images of each class.
        class_names: [C]; on the axes where the classes are few.
        groups: 'head', 'mid', 'tail' -> class ids.
        title: of the figure.
    """
    assert len(images) <= MOST_CONFUSED, "more classes than a picture can show"
    order = by_frequency(counts)
    ordered = np.asarray(images, dtype=float)[np.ix_(order, order)]
    totals = ordered.sum(axis=1, keepdims=True)
    shares = np.divide(100 * ordered, totals, out=np.full_like(ordered, np.nan), where=totals > 0)
    figure = canvas((7.0, 6.0), title)
    axes = figure.add_subplot()
    # By the square root, for what is confused is a few percent of each class; grey where no image was tested.
    drawn = axes.imshow(shares, cmap=_SHARES.with_extremes(bad="#e8e8e8"), norm=PowerNorm(0.5, 0, 100))
    figure.colorbar(drawn, ax=axes, shrink=0.7, label="share of the class's images (%)", ticks=[0, 5, 25, 50, 100])
    axes.spines[["top", "right"]].set_visible(True)
    axes.set(ylabel=_RANKED, xlabel="answer")
    if len(shares) <= FEW_CLASSES:
        _name_cells(axes, shares, [shorten(class_names[i], 14) for i in order])
    for name, start, stop in group_spans(order, groups):
        if start:
            axes.axhline(start - 0.5, color=INK, linewidth=0.8)
            axes.axvline(start - 0.5, color=INK, linewidth=0.8)
        place = ((start + stop) / 2 - 0.5, 1.005)
        axes.text(*place, name, transform=axes.get_xaxis_transform(), ha="center", va="bottom", fontsize=9)
    return figure


def group_spans(order: NDArray[Any], groups: _Groups) -> list[tuple[str, int, int]]:
    """The stretches of neighbouring classes of one group on an axis sorted by frequency.

    Args:
        order: [C] class ids as they stand on the axis.
        groups: group -> class ids.

    Returns:
        (group, first position, last position + 1), from left to right; classes of no group are named ''.
    """
    group_of = {int(member): name for name, members in groups.items() for member in members}
    names = [group_of.get(int(label), "") for label in order]
    starts = [i for i, name in enumerate(names) if i == 0 or name != names[i - 1]]
    return [(names[a], a, b) for a, b in zip(starts, [*starts[1:], len(names)], strict=True)]


def moving_mean(values: NDArray[Any], window: int) -> NDArray[Any]:
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


def _rows_of_dots(axes: Axes, values: Mapping[str, NDArray[Any]]) -> None:
    """One dot a series and class, below each other so that equal accuracies do not hide each other."""
    for i, (name, row) in enumerate(values.items()):
        style = series_style(name, i)
        places = np.arange(len(row)) + (i - (len(values) - 1) / 2) * 0.74 / max(len(values), 1)
        axes.hlines(places, 0, np.nan_to_num(row), color=style.colour, linewidth=3.2, alpha=0.6)
        full = style.line == "-"
        axes.plot(row, places, style.marker, markersize=5, color=style.colour, label=name, clip_on=False, zorder=3,
                  markeredgecolor=PAPER if full else style.colour, markerfacecolor=style.colour if full else PAPER,
                  markeredgewidth=0.6)  # fmt: skip


def _finish_rows(axes: Axes, spans: _Spans, names: Sequence[str], counts: Sequence[int]) -> None:
    labels = [f"{shorten(name, 20)} ({count:,})" for name, count in zip(names, counts, strict=True)]
    axes.set_yticks(range(len(names)), labels)
    axes.set(xlim=(0, 100), ylim=(len(names) - 0.5, -0.5), ylabel="class (training images)")
    axes.set_xlabel("accuracy, %", loc="right", labelpad=1)
    axes.tick_params(length=0)
    axes.tick_params(axis="y", labelcolor=INK)
    axes.grid(axis="x")
    axes.spines["left"].set_visible(False)
    for name, start, stop in spans:
        axes.axhspan(start - 0.5, stop - 0.5, color=group_colour(name), alpha=0.13, linewidth=0)
        axes.annotate(name, (1, (start + stop - 1) / 2), (8, 0), xycoords=("axes fraction", "data"), weight="bold",
                      textcoords="offset points", rotation=270, va="center")  # fmt: skip


def _smooth_lines(axes: Axes, values: Mapping[str, NDArray[Any]], spans: _Spans, window: int) -> None:
    for i, (name, row) in enumerate(values.items()):
        style, every = series_style(name, i), max(1, len(row) // 400)
        for j, (_, start, stop) in enumerate(spans):
            smooth = moving_mean(row[start:stop], window)[::every]
            look: dict[str, Any] = {"linewidth": 1.6, "color": style.colour, "label": name if j == 0 else None}
            axes.plot(range(start, stop, every), smooth, style.line, **look)


def _finish_smooth(upper: Axes, lower: Axes, ordered: NDArray[Any], spans: _Spans, window: int) -> None:
    upper.set_ylabel(f"accuracy, %\n(moving mean of {window} classes)")
    upper.set(ylim=(0, 100), xlim=(-0.5, len(ordered) - 0.5))
    upper.grid(axis="y")
    upper.tick_params(length=0)
    for name, start, stop in spans:
        upper.axvspan(start - 0.5, stop - 0.5, color=group_colour(name), alpha=0.13, linewidth=0)
        upper.annotate(name, ((start + stop - 1) / 2, 1), (0, 4), xycoords=("data", "axes fraction"),
                       textcoords="offset points", ha="center", weight="bold")  # fmt: skip
    _count_bars(lower, ordered, spans, labelled=False)
    lower.minorticks_off()
    lower.set_yticks(sorted({max(int(ordered.min()), 1), max(int(ordered[0]), 1)}))
    lower.set_ylabel("training\nimages", fontsize=8)
    lower.tick_params(labelsize=8, axis="y")
    lower.grid(visible=False)
    lower.set_xlabel(_RANKED)


def _count_bars(axes: Axes, ordered: NDArray[Any], spans: _Spans, labelled: bool) -> None:
    """The classes' counts, coloured by group, on a logarithmic axis where they span much."""
    smallest, largest = int(ordered[ordered > 0].min(initial=ordered.max(initial=1))), int(ordered.max(initial=1))
    if largest >= _LOG_FROM * smallest:
        axes.set_yscale("log")
        axes.set_ylim(smallest / 2, 2 * largest)
    else:
        axes.set_ylim(0, 1.12 * largest)
    for name, start, stop in spans:
        if labelled:
            drawn = axes.bar(range(start, stop), ordered[start:stop], width=0.78, color=group_colour(name))
            axes.bar_label(drawn, labels=[f"{n:,}" for n in ordered[start:stop]], padding=2, fontsize=8)
        else:  # one outline a group: thousands of single bars would take seconds and leave white seams
            edges, base = np.arange(start, stop + 1) - 0.5, axes.get_ylim()[0]
            axes.stairs(ordered[start:stop], edges, baseline=base, fill=True, color=group_colour(name))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.grid(axis="y")


def _name_columns(axes: Axes, names: Sequence[str], room: int) -> None:
    """The names of an axis' classes, slanted where they have more letters together than there is room for."""
    slanted: dict[str, Any] = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"}
    touch = len(names) * max(map(len, names), default=0) > room
    axes.set_xticks(range(len(names)), names, **(slanted if touch else {}))
    axes.tick_params(axis="x", length=0, labelcolor=INK)


def _name_cells(axes: Axes, shares: NDArray[Any], names: Sequence[str]) -> None:
    """The classes' names, and the share in each cell, but for those that round to 0."""
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(length=0)
    _name_columns(axes, names, 60)
    for row, column in zip(*np.nonzero(np.nan_to_num(shares) >= 0.5), strict=True):
        colour = "white" if shares[row, column] >= _DARK else INK
        axes.text(column, row, f"{shares[row, column]:.0f}", ha="center", va="center", fontsize=8, color=colour)


def _size(name: str, counts: Sequence[int]) -> str:
    classes = "1 class" if len(counts) == 1 else f"{len(counts):,} classes"
    return f"{name}: {classes}, {sum(counts):,} images"
