"""What the parts of a step cost: horizontal bars, the largest on top."""

from collections.abc import Mapping
from pathlib import Path

from matplotlib.figure import Figure

from deitlt.figures.style import UNGROUPED, house_style, save_figure, shorten

_LARGEST = 5  # bars in colour
_COLOUR = "#0072b2"
_MOST = 12  # bars; the rest are one


def cost_bars(shares: Mapping[str, float], path: Path, title: str) -> Path:
    """Draw the share of each part, the five largest in colour.

    Args:
        shares: part -> its share of the whole, in [0, 1].
        path: the picture's file.
        title: what the whole is.

    Returns:
        The path.
    """
    parts = sorted(shares.items(), key=lambda item: -item[1])
    if len(parts) > _MOST:
        parts = [*parts[: _MOST - 1], ("all others", sum(share for _, share in parts[_MOST - 1 :]))]
    names = [shorten(name, 40) for name, _ in parts]
    percents = [100 * share for _, share in parts]
    with house_style():
        figure = Figure(figsize=(8, 1.2 + 0.34 * len(parts)), layout="constrained")
        axes = figure.add_subplot()
        colours = [_COLOUR if place < _LARGEST else UNGROUPED for place in range(len(parts))]
        bars = axes.barh(range(len(parts)), percents, color=colours, height=0.7)
        axes.bar_label(bars, labels=[f"{percent:.1f} %" for percent in percents], padding=3, fontsize=9)
        axes.set_yticks(range(len(parts)), names)
        axes.invert_yaxis()
        axes.tick_params(axis="y", length=0)
        axes.set_xlim(0, 1.14 * max(percents, default=1.0))
        axes.set_xlabel("share of the step, %")
        axes.grid(axis="x")
        axes.set_title(title)
        return save_figure(figure, path)
