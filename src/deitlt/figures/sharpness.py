"""How sharp the minimum is, over all images and for each group's: two numbers of the loss's Hessian."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation

from deitlt.figures.bars import group_bars, in_group_order
from deitlt.figures.style import FAINT, INK, house_style, save_figure

_PANELS = {"eigenvalue": "largest eigenvalue of the Hessian", "trace": "trace of the Hessian, ± standard error"}


def hessian_sharpness(sharpness: Mapping[str, Mapping[str, float]], path: Path, title: str) -> Path:
    """Draw the Hessian's largest eigenvalue and trace for each group's images.

    Args:
        sharpness: group -> 'eigenvalue', 'trace', its standard error 'trace_error', and on how many 'images', as far
            as they are known.
        path: the picture's file.
        title: of the whole picture.

    Returns:
        The path.
    """
    with house_style():
        figure = Figure(figsize=(9, 4), layout="constrained")
        for axes, (number, words) in zip(figure.subplots(1, 2), _PANELS.items(), strict=True):
            known = {name: sharpness[name] for name in in_group_order(sharpness) if number in sharpness[name]}
            group_bars(axes, {name: found[number] for name, found in known.items()}, "{:.3g}")
            axes.axhline(0, color=FAINT, linewidth=0.8)  # a trace may be negative
            axes.set_xticks(range(len(known)), [_with_images(name, found) for name, found in known.items()])
            axes.set_ylabel(words)
            if number == "trace":
                _errors(axes, list(known.values()))
        figure.suptitle(title, x=0.01, ha="left", weight="bold", fontsize=12)
        return save_figure(figure, path)


def _with_images(name: str, found: Mapping[str, float]) -> str:
    images = found.get("images")
    return f"{name}\n{images:,} images" if images else name


def _errors(axes: Axes, traces: Sequence[Mapping[str, float]]) -> None:
    """Standard errors on the bars, and what a negative trace means where there is one."""
    heights, errors = ([found.get(key, 0.0) for found in traces] for key in ("trace", "trace_error"))
    axes.errorbar(range(len(traces)), heights, errors, fmt="none", ecolor=INK, elinewidth=1.2, capsize=4)
    numbers = [text for text in axes.texts if isinstance(text, Annotation)]
    for number, height, error in zip(numbers, heights, errors, strict=True):
        number.xy = (number.xy[0], height + math.copysign(error, height))  # beyond the error bar
    if min(heights, default=0.0) < 0:
        axes.set_title("negative: a saddle, no minimum", fontsize=9, color=FAINT, weight="normal", loc="right")
