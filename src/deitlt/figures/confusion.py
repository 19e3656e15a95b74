"""Which classes are taken for which, as a picture."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, PowerNorm
from matplotlib.figure import Figure
from numpy.typing import NDArray

from deitlt.figures.style import FEW_CLASSES, INK, group_spans, house_style, save_figure, shorten
from deitlt.longtail import by_frequency

MOST_CLASSES = 100  # a picture of more is a grey square
_SHARES = LinearSegmentedColormap.from_list("shares", ["#ffffff", "#b9d3ea", "#3f7fb5", "#12345a"])
_DARK = 35  # percent; from here on a cell is so dark that its number is white
_ABSENT = "#e8e8e8"  # the row of a class of which no image was tested


def confusion_picture(
    images: NDArray[Any],
    counts: Sequence[int],
    class_names: Sequence[str],
    groups: Mapping[str, Sequence[int]],
    path: Path,
    title: str,
) -> Path:
    """Draw the share of each class's images that got each answer, classes sorted by frequency.

    Args:
        images: [C, C] images of a true class (row) by answer (column); C is at most `MOST_CLASSES`.
        counts: [C] training images of each class.
        class_names: [C]; on the axes where the classes are few.
        groups: 'head', 'mid', 'tail' -> class ids.
        path: the picture's file.
        title: of the picture.

    Returns:
        The path.
    """
    assert len(images) <= MOST_CLASSES, "more classes than a picture can show"
    order = by_frequency(counts)
    ordered = np.asarray(images, dtype=float)[np.ix_(order, order)]
    totals = ordered.sum(axis=1, keepdims=True)
    shares = np.divide(100 * ordered, totals, out=np.full_like(ordered, np.nan), where=totals > 0)
    with house_style():
        figure = Figure(figsize=(8, 7), layout="constrained")
        axes = figure.add_subplot()
        # By the square root, for what is confused is a few percent of each class.
        drawn = axes.imshow(shares, cmap=_SHARES.with_extremes(bad=_ABSENT), norm=PowerNorm(0.5, 0, 100))
        figure.colorbar(drawn, ax=axes, shrink=0.7, label="share of the class's images (%)", ticks=[0, 5, 25, 50, 100])
        _axes(axes, [class_names[i] for i in order])
        _groups(axes, group_spans(order, groups))
        if len(shares) <= FEW_CLASSES:
            _numbers(axes, shares)
        axes.set_title(title, pad=24)  # over the groups' names
        return save_figure(figure, path)


def _axes(axes: Axes, names: Sequence[str]) -> None:
    axes.spines[["top", "right"]].set_visible(True)
    axes.set_ylabel("class, from the most to the least frequent")
    axes.set_xlabel("answer")
    if len(names) <= FEW_CLASSES:
        short = [shorten(name, 14) for name in names]
        axes.set_yticks(range(len(names)), short)
        axes.set_xticks(range(len(names)), short)
        if max(map(len, short)) > 3:
            for label in axes.get_xticklabels():
                label.set(rotation=45, horizontalalignment="right", rotation_mode="anchor")
        axes.tick_params(length=0)


def _groups(axes: Axes, spans: Sequence[tuple[str, int, int]]) -> None:
    """A line between neighbouring groups, and each group's name over its columns."""
    for name, start, stop in spans:
        if start:
            axes.axhline(start - 0.5, color=INK, linewidth=0.8)
            axes.axvline(start - 0.5, color=INK, linewidth=0.8)
        place = ((start + stop) / 2 - 0.5, 1.005)
        axes.text(*place, name, transform=axes.get_xaxis_transform(), ha="center", va="bottom", fontsize=9)


def _numbers(axes: Axes, shares: NDArray[Any]) -> None:
    """The share in each cell, but for those that round to 0."""
    for row, column in zip(*np.nonzero(np.nan_to_num(shares) >= 0.5), strict=True):
        share = shares[row, column]
        colour = "white" if share >= _DARK else INK
        axes.text(column, row, f"{share:.0f}", ha="center", va="center", fontsize=8, color=colour)
