"""Bars side by side in clusters: one cluster a group, token or kind of image."""

from collections.abc import Callable, Iterable, Mapping

from matplotlib.axes import Axes

from deitlt.figures.style import FAINT, INK, group_colour

GROUP_ORDER = ("all", "head", "mid", "tail")
_SHARE = 0.82  # of a cluster's place that its bars fill
_LABELLED = 24  # bars that have room for their numbers


def in_group_order(names: Iterable[str]) -> list[str]:
    """'all', then head, mid and tail, then any other group in its own order."""
    given = list(dict.fromkeys(names))
    return [name for name in GROUP_ORDER if name in given] + [name for name in given if name not in GROUP_ORDER]


def group_or_all_colour(name: str) -> str:
    """A group's colour; dark grey for all images together."""
    return INK if name == "all" else group_colour(name)


def cluster_bars(
    axes: Axes,
    values: Mapping[str, Mapping[str, float]],
    colour: Callable[[str], str],
    labels: Mapping[str, str] | None = None,
    number: str = "{:.1f}",
) -> None:
    """Draw a cluster of bars for each outer name, a bar for each inner one; what is absent leaves its place empty.

    Args:
        axes: where.
        values: cluster -> bar -> height.
        colour: bar -> its colour.
        labels: bar -> its word in the legend; None where the bars need none.
        number: how a bar's height is written over it, where the bars are few.
    """
    bars = list(dict.fromkeys(name for cluster in values.values() for name in cluster))
    width = _SHARE / max(len(bars), 1)
    few = len(bars) * len(values) <= _LABELLED
    for place, name in enumerate(bars):
        shift = (place - (len(bars) - 1) / 2) * width
        found = [(i + shift, cluster[name]) for i, cluster in enumerate(values.values()) if name in cluster]
        where, heights = zip(*found, strict=True)
        drawn = axes.bar(where, heights, width * 0.92, color=colour(name), label=labels and labels.get(name, name))
        if few:
            axes.bar_label(drawn, [number.format(height) for height in heights], padding=2, fontsize=8, color=FAINT)
    axes.set_xticks(range(len(values)), list(values))
    axes.set_xlim(-0.6, len(values) - 0.4)
    axes.tick_params(axis="x", length=0)
    axes.grid(axis="y")


def group_bars(axes: Axes, values: Mapping[str, float], number: str = "{:.1f}") -> None:
    """Draw one bar for each group, in its colour, with its number.

    Args:
        axes: where.
        values: group -> height.
        number: how a height is written over its bar.
    """
    names = in_group_order(values)
    heights = [values[name] for name in names]
    drawn = axes.bar(range(len(names)), heights, 0.7, color=[group_or_all_colour(name) for name in names])
    axes.bar_label(drawn, [number.format(height) for height in heights], padding=2, fontsize=9, color=FAINT)
    axes.set_xticks(range(len(names)), names)
    axes.tick_params(axis="x", length=0)
    axes.margins(y=0.12)
    axes.grid(axis="y")


def percent_axis(axes: Axes, label: str) -> None:
    """A vertical axis in percent, from 0 to 100."""
    axes.set_ylim(0, 100)
    axes.set_yticks(range(0, 101, 20))
    axes.set_ylabel(label)
