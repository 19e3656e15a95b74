"""How many directions features take: each token's block by block, or a teacher's."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from deitlt.figures.attention_distance import WORDS, block_axis
from deitlt.figures.style import FAINT, house_style, save_figure, series_style

Ranks = Mapping[str, Mapping[str, Sequence[float]]]  # token -> 'components' and 'effective' -> [blocks]
_PANELS = {
    "components": "principal components\nfor 99 % of the variance",
    "effective": "effective rank\n(exp of the spectrum's entropy)",
}


def feature_ranks(ranks: Ranks, width: int, path: Path, title: str) -> Path:
    """Draw the rank of CLS's and DIST's features after each block, by both definitions.

    Args:
        ranks: token -> definition -> a number for each block.
        width: length of a feature vector, which no rank exceeds.
        path: the picture's file.
        title: of the whole picture.

    Returns:
        The path.
    """
    with house_style():
        figure = Figure(figsize=(9, 4.2), layout="constrained")
        panels = figure.subplots(1, len(_PANELS))
        for axes, (definition, words) in zip(panels, _PANELS.items(), strict=True):
            _panel(axes, {token: found[definition] for token, found in ranks.items()}, words)
        panels[0].legend(loc="upper left")
        figure.suptitle(f"{title} (features of {width} numbers)", x=0.01, ha="left", weight="bold", fontsize=12)
        return save_figure(figure, path)


def feature_rank(rank: Mapping[str, float], width: int, path: Path, title: str) -> Path:
    """Draw the rank of one layer's features, such as a teacher's, by both definitions, under their number.

    Args:
        rank: 'components' and 'effective' -> a number.
        width: length of a feature vector, which no rank exceeds.
        path: the picture's file.
        title: of the whole picture.

    Returns:
        The path.
    """
    with house_style():
        figure = Figure(figsize=(6.5, 4.2), layout="constrained")
        axes = figure.add_subplot()
        heights = [rank[definition] for definition in _PANELS]
        drawn = axes.bar(range(len(heights)), heights, 0.5, color=series_style("teacher").colour)
        axes.bar_label(drawn, [f"{height:.3g}" for height in heights], padding=2, fontsize=9, color=FAINT)
        axes.axhline(width, color=FAINT, linewidth=1.0, linestyle="--")
        axes.annotate(f"width of the features: {width:,}", (1.0, width), xycoords=("axes fraction", "data"),
                      xytext=(0, 3), textcoords="offset points", ha="right", fontsize=9, color=FAINT)  # fmt: skip
        axes.set_xticks(range(len(heights)), list(_PANELS.values()))
        axes.set_xlim(-0.7, len(heights) - 0.3)
        axes.set_ylim(0, 1.12 * max(width, 1))
        axes.tick_params(axis="x", length=0)
        axes.set_ylabel("directions")
        axes.grid(axis="y")
        axes.set_title(title)
        return save_figure(figure, path)


def _panel(axes: Axes, lines: Mapping[str, Sequence[float]], words: str) -> None:
    for position, (token, values) in enumerate(lines.items()):
        word = WORDS.get(token, token)
        style = series_style(word)
        # Where the tokens are alike, the first one's line and markers show behind the second one's.
        look: dict[str, Any] = {"markersize": 11 - 4 * min(position, 1), "linewidth": 3.6 - 1.8 * min(position, 1)}
        look |= {"linestyle": "-", "markeredgecolor": "white", "color": style.colour}
        axes.plot(range(len(values)), values, style.marker, label=word, **look)
    largest = max((max(values) for values in lines.values()), default=1)
    axes.set_ylim(0, 1.3 * max(largest, 1))  # room for the legend
    axes.set_ylabel(words)
    axes.grid(axis="y")
    block_axis(axes, max(map(len, lines.values())))
