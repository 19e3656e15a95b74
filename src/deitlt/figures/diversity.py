"""How differently the two experts see: by group, by block, and as training goes on."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from deitlt.figures.attention_distance import block_axis
from deitlt.figures.bars import group_bars, group_or_all_colour, in_group_order, percent_axis
from deitlt.figures.style import INK, house_style, save_figure

Groups = Mapping[str, float]  # 'all', 'head', 'mid', 'tail' -> a number
_COSINE = "1 - cosine of CLS and DIST"
_DISAGREE = "images on which CLS and DIST\ndecide otherwise, %"


def expert_diversity(
    disagreement: Groups, cosine_distance: Groups, per_block: Sequence[float], path: Path, title: str
) -> Path:
    """Draw how often the tokens disagree and how far apart their features are, by group and after each block.

    Args:
        disagreement: group -> percent of its images.
        cosine_distance: group -> mean of 1 - cosine, in [0, 2].
        per_block: the same over all images after each block.
        path: the picture's file.
        title: of the whole picture.

    Returns:
        The path.
    """
    with house_style():
        figure = Figure(figsize=(11, 4), layout="constrained")
        left, middle, right = figure.subplots(1, 3)
        group_bars(left, disagreement)
        percent_axis(left, _DISAGREE)
        group_bars(middle, cosine_distance, "{:.2f}")
        middle.set_ylabel(f"{_COSINE}, last block")
        right.plot(range(len(per_block)), per_block, "o-", color=INK, linewidth=2.0, markeredgecolor="white")
        right.set_ylim(bottom=0)
        right.set_ylabel(f"{_COSINE}, all images")
        right.grid(axis="y")
        block_axis(right, len(per_block))
        figure.suptitle(title, x=0.01, ha="left", weight="bold", fontsize=12)
        return save_figure(figure, path)


def diversity_over_epochs(
    disagreement: Mapping[int, Groups], cosine_distance: Mapping[int, Groups], path: Path, title: str
) -> Path:
    """Draw both measures by group against the epoch.

    Args:
        disagreement: epochs trained -> group -> percent of its images.
        cosine_distance: epochs trained -> group -> mean of 1 - cosine.
        path: the picture's file.
        title: of the whole picture.

    Returns:
        The path.
    """
    with house_style():
        figure = Figure(figsize=(9, 4), layout="constrained")
        left, right = figure.subplots(1, 2)
        _curves(left, disagreement)
        percent_axis(left, _DISAGREE)
        _curves(right, cosine_distance)
        right.set_ylim(bottom=0)
        right.set_ylabel(f"{_COSINE}, last block")
        right.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
        figure.suptitle(title, x=0.01, ha="left", weight="bold", fontsize=12)
        return save_figure(figure, path)


def _curves(axes: Axes, values: Mapping[int, Groups]) -> None:
    epochs = sorted(values)
    for name in in_group_order(group for found in values.values() for group in found):
        points = [(epoch, values[epoch][name]) for epoch in epochs if name in values[epoch]]
        colour = group_or_all_colour(name)
        axes.plot(*zip(*points, strict=True), "o-", color=colour, linewidth=1.8, markersize=4, label=name)
    axes.set_xlabel("epochs trained")
    axes.grid(axis="y")
