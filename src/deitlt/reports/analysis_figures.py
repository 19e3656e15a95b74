"""Figures of what was measured inside the networks, and how far each answer is from its confidence and its teacher."""

import math
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation

from deitlt.reports.figures import (
    FAINT,
    INK,
    Points,
    bar_panels,
    group_bars,
    in_group_order,
    line_panels,
    series_style,
    styled,
)

TOKEN_WORDS: Final = {"cls": "CLS", "dist": "DIST", "avg": "AVG", "patches": "patches"}
ATTENTION: Final = "mean attention distance, pixels"
RANKS: Final = {"components": "components for 99 % of the variance", "effective": "effective rank"}
DISAGREEMENT: Final = "images on which CLS and DIST differ, %"
COSINE: Final = "1 - cosine of CLS and DIST"
_SHARPNESS: Final = {"eigenvalue": "largest eigenvalue of the Hessian", "trace": "its trace, ± standard error"}

_Groups = Mapping[str, float]  # 'all', 'head', 'mid', 'tail' -> a number


def by_block(values: Sequence[float]) -> Points:
    """Blocks counted from 1 beside their values."""
    return [(float(block), float(value)) for block, value in enumerate(values, start=1)]


@styled
def attention_distances(distances: Mapping[str, Sequence[Sequence[float]]], title: str = "") -> Figure:
    """A line through each token's mean over the heads, and each head as a dot.

    Args:
        distances: 'cls', 'dist', 'patches' or a name -> a row of heads for each block, in pixels.
        title: of the figure; without one the distances go unnamed.
    """
    means = {TOKEN_WORDS.get(name, name): [float(np.mean(heads)) for heads in rows] for name, rows in distances.items()}
    figure = line_panels({ATTENTION if title else "": {n: by_block(v) for n, v in means.items()}}, "block", title)
    (axes,) = figure.axes
    for position, (name, blocks) in enumerate(distances.items()):
        style, shift = series_style(TOKEN_WORDS.get(name, name), position), (position - (len(distances) - 1) / 2) * 0.08
        dots = [(block + shift, head) for block, heads in enumerate(blocks, start=1) for head in heads]
        axes.plot(*zip(*dots, strict=True), ".", color=style.colour, alpha=0.4, markersize=4, zorder=1)
    axes.set_ylim(0, max(axes.get_ylim()[1], 1.06 * max(max(h) for blocks in distances.values() for h in blocks)))
    return figure


def feature_ranks(ranks: Mapping[str, Mapping[str, Sequence[float]]], width: int, title: str) -> Figure:
    """The rank of each token's features after each block, by both definitions.

    Args:
        ranks: 'cls', 'dist' -> 'components' and 'effective' -> a number for each block.
        width: length of a feature vector, which no rank exceeds.
        title: of the figure.
    """
    panels = {
        words: {TOKEN_WORDS.get(token, token): by_block(found[measure]) for token, found in ranks.items()}
        for measure, words in RANKS.items()
    }
    return line_panels(panels, "block", f"{title} (features of {width} numbers)")


@styled
def feature_rank(rank: Mapping[str, float], width: int, title: str) -> Figure:
    """The rank of one layer's features, such as a teacher's, by both definitions, under their number.

    Args:
        rank: 'components' and 'effective' -> a number.
        width: length of a feature vector, which no rank exceeds.
        title: of the figure.
    """
    bars = {words.replace(" of", "\nof"): {"teacher": rank[measure]} for measure, words in RANKS.items()}
    figure = bar_panels({"": bars}, "{:.3g}", title=title)
    (axes,) = figure.axes
    axes.axhline(width, color=FAINT, linewidth=1.0, linestyle="--")
    axes.annotate(f"width of the features: {width:,}", (1.0, width), (0, 3), xycoords=("axes fraction", "data"),
                  textcoords="offset points", ha="right", fontsize=9, color=FAINT)  # fmt: skip
    axes.set_ylim(0, 1.14 * max(width, 1))
    return figure


@styled
def expert_diversity(disagreement: _Groups, cosine_distance: _Groups, per_block: Sequence[float], title: str) -> Figure:
    """How often the tokens disagree and how far apart their features are, by group and after each block.

    Args:
        disagreement: group -> percent of its images.
        cosine_distance: group -> mean of 1 - cosine, in [0, 2].
        per_block: the same over all images after each block.
        title: of the figure.
    """
    words = (DISAGREEMENT, f"{COSINE}, last block", f"{COSINE}, by block")
    blocks = {str(block): {COSINE: value} for block, value in enumerate(per_block, start=1)}
    panels = {words[0]: group_bars(disagreement), words[1]: group_bars(cosine_distance), words[2]: blocks}
    figure = bar_panels(panels, "{:.3g}", percent=True, title=title)
    for bar in figure.axes[2].patches:
        bar.set_color(INK)
    figure.axes[2].set_xlabel("block", loc="right")
    return figure


def diversity_over_epochs(
    disagreement: Mapping[int, _Groups], cosine_distance: Mapping[int, _Groups], title: str
) -> Figure:
    """Both measures by group against the epoch.

    Args:
        disagreement: epochs trained -> group -> percent of its images.
        cosine_distance: epochs trained -> group -> mean of 1 - cosine.
        title: of the figure.
    """
    panels = {DISAGREEMENT: _by_epoch(disagreement), f"{COSINE}, last block": _by_epoch(cosine_distance)}
    return line_panels(panels, "epochs trained", title)


def calibration_errors(errors: Mapping[str, _Groups], title: str) -> Figure:
    """The expected calibration error of each answer, by group.

    Args:
        errors: answer, such as 'CLS', 'DIST', 'AVG' or 'teacher' -> group -> ECE in percent.
        title: of the figure.
    """
    groups = in_group_order(group for found in errors.values() for group in found)
    by_group = {group: {answer: found[group] for answer, found in errors.items() if group in found} for group in groups}
    return bar_panels({"expected calibration error, %": by_group}, title=title)


def teacher_agreement(agreement: Mapping[str, _Groups], title: str) -> Figure:
    """How far out of distribution the teacher is: how often it is right on each kind of the student's images, by group.

    Args:
        agreement: 'clean', 'cropped', 'augmented', 'mixed' -> group -> percent of its images.
        title: of the figure.
    """
    ordered = {
        kind: {name: groups[name] for name in in_group_order(groups)} for kind, groups in agreement.items() if groups
    }
    return bar_panels({"training images on which the teacher is right, %": ordered}, "{:.0f}", True, title)


@styled
def hessian_sharpness(sharpness: Mapping[str, Mapping[str, float]], title: str) -> Figure:
    """How sharp the minimum is: the Hessian's largest eigenvalue and trace for each group's images.

    Args:
        sharpness: group -> 'eigenvalue', 'trace', its standard error 'trace_error', and on how many 'images', as far
            as they are known.
        title: of the figure.
    """
    known = {
        number: {name: sharpness[name] for name in in_group_order(sharpness) if number in sharpness[name]}
        for number in _SHARPNESS
    }
    panels = {
        words: {name: {name: found[number]} for name, found in known[number].items()}
        for number, words in _SHARPNESS.items()
    }
    figure = bar_panels(panels, "{:.3g}", title=title)
    for axes, found in zip(figure.axes, known.values(), strict=True):
        axes.axhline(0, color=FAINT, linewidth=0.8)  # a trace may be negative
        images = [f"{name}\n{of['images']:,} images" if of.get("images") else name for name, of in found.items()]
        axes.set_xticks(range(len(found)), images, fontsize=8)
    _standard_errors(figure.axes[1], list(known["trace"].values()))
    return figure


def _standard_errors(axes: Axes, traces: Sequence[Mapping[str, float]]) -> None:
    """Standard errors on the bars, and what a negative trace means where there is one."""
    heights, errors = ([found.get(key, 0.0) for found in traces] for key in ("trace", "trace_error"))
    axes.errorbar(range(len(traces)), heights, errors, fmt="none", ecolor=INK, elinewidth=1.2, capsize=4)
    numbers = [text for text in axes.texts if isinstance(text, Annotation)]
    for number, height, error in zip(numbers, heights, errors, strict=True):
        number.xy = (number.xy[0], height + math.copysign(error, height))  # beyond the error bar
    if min(heights, default=0.0) < 0:
        axes.set_xlabel("negative: a saddle, no minimum", fontsize=9)


def _by_epoch(values: Mapping[int, _Groups]) -> dict[str, Points]:
    groups = in_group_order(group for found in values.values() for group in found)
    return {
        group: [(float(epoch), values[epoch][group]) for epoch in sorted(values) if group in values[epoch]]
        for group in groups
    }
