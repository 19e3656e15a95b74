"""How many training images each class has: the long tail itself."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import StrMethodFormatter

from deitlt.figures.style import (
    FEW_CLASSES,
    group_colour,
    group_spans,
    house_style,
    label_classes,
    save_figure,
)
from deitlt.longtail import by_frequency

_LOG_FROM = 20  # ratio of the largest to the smallest class from which the axis is logarithmic


def class_histogram(
    counts: Sequence[int], class_names: Sequence[str], groups: Mapping[str, Sequence[int]], path: Path
) -> Path:
    """Draw the training images per class, sorted by frequency and coloured by group.

    Args:
        counts: [C] training images of each class.
        class_names: [C]; on the axis where the classes are few.
        groups: 'head', 'mid', 'tail' -> class ids.
        path: the picture's file.

    Returns:
        The path.
    """
    order = by_frequency(counts)
    ordered = np.asarray(counts)[order]
    with house_style():
        figure = Figure(figsize=(9, 4.5), layout="constrained")
        axes = figure.add_subplot()
        _scale(axes, ordered)
        _bars(axes, ordered, group_spans(order, groups))
        _axis(axes, [class_names[i] for i in order], ordered)
        _legend(axes, counts, groups)
        axes.set_title(_title(ordered))
        return save_figure(figure, path)


def _scale(axes: Axes, ordered: np.ndarray) -> None:
    smallest = ordered[ordered > 0].min(initial=ordered.max(initial=1))
    if ordered.max(initial=1) >= _LOG_FROM * smallest:
        axes.set_yscale("log")
        axes.set_ylim(smallest / 2, ordered.max() * 2)
    else:
        axes.set_ylim(0, ordered.max(initial=1) * 1.12)
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.grid(axis="y")


def _bars(axes: Axes, ordered: np.ndarray, spans: Sequence[tuple[str, int, int]]) -> None:
    few = len(ordered) <= FEW_CLASSES
    for name, start, stop in spans:
        heights = ordered[start:stop]
        if few:
            drawn = axes.bar(range(start, stop), heights, width=0.78, color=group_colour(name))
            axes.bar_label(drawn, labels=[f"{n:,}" for n in heights], padding=2, fontsize=8)
        else:  # one outline a group: thousands of single bars would take seconds and leave white seams
            edges = np.arange(start, stop + 1) - 0.5
            axes.stairs(heights, edges, baseline=axes.get_ylim()[0], fill=True, color=group_colour(name))


def _axis(axes: Axes, names: Sequence[str], ordered: np.ndarray) -> None:
    scale = ", log scale" if axes.get_yscale() == "log" else ""
    axes.set_ylabel(f"training images{scale}")
    axes.set_xlim(-0.6, len(ordered) - 0.4)
    if len(ordered) <= FEW_CLASSES:
        label_classes(axes, names)
    else:
        axes.set_xlabel("class, from the most to the least frequent")


def _legend(axes: Axes, counts: Sequence[int], groups: Mapping[str, Sequence[int]]) -> None:
    grouped = {int(i) for ids in groups.values() for i in ids}
    parts = {**groups, "in no group": [i for i in range(len(counts)) if i not in grouped]}
    handles = [
        Patch(color=group_colour(name), label=_size(name, [counts[i] for i in ids]))
        for name, ids in parts.items()
        if len(ids)
    ]
    axes.legend(handles=handles, loc="upper right")


def _size(name: str, counts: Sequence[int]) -> str:
    classes = "1 class" if len(counts) == 1 else f"{len(counts):,} classes"
    return f"{name}: {classes}, {sum(counts):,} images"


def _title(ordered: np.ndarray) -> str:
    smallest = int(ordered[-1]) if len(ordered) else 0
    ratio = f", largest to smallest {ordered[0] / smallest:.3g} : 1" if smallest else ""
    return f"{ordered.sum():,} training images in {len(ordered):,} classes{ratio}"
