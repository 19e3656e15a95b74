"""Which of the two experts wins each class, from the most to the least frequent class."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from deitlt.figures.accuracy import shade_groups
from deitlt.figures.style import (
    FAINT,
    FEW_CLASSES,
    INK,
    group_spans,
    house_style,
    label_classes,
    save_figure,
    series_style,
)
from deitlt.longtail import by_frequency


def token_winners(
    cls: Sequence[float | None],
    dist: Sequence[float | None],
    counts: Sequence[int],
    class_names: Sequence[str],
    groups: Mapping[str, Sequence[int]],
    path: Path,
    title: str,
) -> Path:
    """Draw CLS's recall less DIST's for each class, coloured by the winner.

    Args:
        cls: [C] recalls of CLS in percent; None where the class has no image.
        dist: [C], DIST's.
        counts: [C] training images of each class.
        class_names: [C].
        groups: 'head', 'mid', 'tail' -> class ids.
        path: the picture's file.
        title: of the whole picture.

    Returns:
        The path.
    """
    order = by_frequency(counts)
    margins = (np.array(cls, dtype=float) - np.array(dist, dtype=float))[order]
    with house_style():
        figure = Figure(figsize=(10, 4.8), layout="constrained")
        axes = figure.add_subplot()
        shade_groups(axes, group_spans(order, groups))
        _bars(axes, margins)
        _finish(axes, margins, [class_names[i] for i in order])
        figure.suptitle(title, x=0.01, ha="left", weight="bold", fontsize=12)
        return save_figure(figure, path)


def _bars(axes: Axes, margins: np.ndarray) -> None:
    """Bars up where CLS wins and down where DIST does, a short dash where neither."""
    few = len(margins) <= FEW_CLASSES
    for token, wins in (("CLS", margins > 0), ("DIST", margins < 0)):
        heights, colour = np.where(wins, margins, 0.0), series_style(token).colour
        if few:
            drawn = axes.bar(np.flatnonzero(wins), margins[wins], width=0.7, color=colour)
            axes.bar_label(drawn, [f"{abs(m):.0f}" for m in margins[wins]], padding=2, fontsize=8, color=FAINT)
        else:  # one outline a token: thousands of single bars would take seconds
            axes.stairs(heights, np.arange(len(margins) + 1) - 0.5, fill=True, color=colour)
    ties = np.flatnonzero(margins == 0)
    axes.plot(ties, np.zeros(len(ties)), "_", color=INK, markersize=9 if few else 2, markeredgewidth=2)


def _finish(axes: Axes, margins: np.ndarray, names: Sequence[str]) -> None:
    wins = {"CLS": int((margins > 0).sum()), "DIST": int((margins < 0).sum())}
    handles = [Patch(color=series_style(name).colour, label=f"{name} wins {n:,}") for name, n in wins.items()]
    handles.append(Patch(color=INK, label=f"ties: {int((margins == 0).sum()):,}"))
    axes.legend(handles=handles, loc="lower right", bbox_to_anchor=(1.0, 1.08), ncols=3)
    reach = 1.15 * max(float(np.nanmax(np.abs(margins), initial=0.0)), 5.0)
    axes.set_ylim(-reach, reach)
    axes.axhline(0, color=FAINT, linewidth=0.8)
    axes.yaxis.set_major_formatter(lambda margin, _: f"{abs(margin):g}")  # a lead, as on the bars
    axes.set_ylabel("lead in recall, percentage points:\nDIST downwards, CLS upwards")
    axes.set_xlim(-0.6, len(names) - 0.4)
    axes.grid(axis="y")
    if len(names) <= FEW_CLASSES:
        label_classes(axes, names)
    else:
        axes.set_xlabel("class, from the most to the least frequent")
