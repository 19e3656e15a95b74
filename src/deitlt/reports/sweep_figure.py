"""Parallel coordinates: each job of a sweep is a line through its settings to what it reached."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from deitlt.reports.figures import FAINT, add_legend, shorten, styled

_Colour: TypeAlias = tuple[float, float, float, float]

_COLOURS = "viridis_r"
_WIDE = 5.0  # largest by smallest value from which an axis is logarithmic
_FEW = 8  # different numbers up to which each has its tick
_TICKS = 5
_DIGITS = 8  # nobody types more of a number


@dataclass(frozen=True)
class _Axis:
    """Where the lines cross one axis, in [0, 1], and the ticks: place -> text."""

    places: np.ndarray
    ticks: dict[float, str]


@styled
def parallel_coordinates(
    settings: Mapping[str, Sequence[str]],
    values: Sequence[float],
    metric: str,
    stopped: Sequence[bool],
    best: str = "maximize",
) -> Figure:
    """Each job as a line across one axis a setting, coloured by its value, the best one thick and on top.

    Args:
        settings: key -> [N] values as typed; an axis of numbers is to scale, of names evenly spaced.
        values: [N] what the jobs reached.
        metric: what that is, such as 'val/student/avg/balanced'.
        stopped: [N] whether a job was stopped early; its line is dashed.
        best: maximize | minimize.
    """
    axes = {key: _axis(words) for key, words in settings.items()} | {metric: _numbers([*values], _even(values))}
    figure = Figure(figsize=(2.2 + 2.3 * (len(axes) - 1), 4.6), layout="constrained")
    canvas = figure.add_subplot()
    colour = _draw_lines(canvas, list(axes.values()), values, stopped, best)
    for place, (name, axis) in enumerate(axes.items()):
        _draw_axis(canvas, place, name, axis)
    canvas.set(xlim=(-0.3, len(axes) - 0.45), ylim=(-0.06, 1.06), xticks=[], yticks=[])
    for spine in canvas.spines.values():
        spine.set_visible(False)
    handles = [Line2D([], [], color=colour, linewidth=3, label="best")] if colour else []
    handles += [Line2D([], [], color=FAINT, linestyle="--", label="stopped early")] if any(stopped) else []
    if handles:
        add_legend(figure, handles, [str(handle.get_label()) for handle in handles])
    return figure


def _axis(words: Sequence[str]) -> _Axis:
    """An axis of numbers, where all words are some, else of names in the order in which they appear."""
    try:
        numbers = [float(word) for word in words]
    except ValueError:
        return _names(words)
    if not all(map(math.isfinite, numbers)):
        return _names(words)
    known = {n: word if len(word) <= _DIGITS else f"{n:.3g}" for n, word in zip(numbers, words, strict=True)}
    if len(known) <= _FEW:
        return _numbers(numbers, known)
    return _numbers(numbers, _even(numbers))


def _names(words: Sequence[str]) -> _Axis:
    places = {word: i for i, word in enumerate(dict.fromkeys(sorted(words)))}
    last = max(1, len(places) - 1)
    scaled = {word: i / last if len(places) > 1 else 0.5 for word, i in places.items()}
    return _Axis(np.array([scaled[word] for word in words]), {place: word for word, place in scaled.items()})


def _numbers(numbers: Sequence[float], ticks: Mapping[float, str]) -> _Axis:
    low, high = min(numbers), max(numbers)
    logs = low > 0 and high / low >= _WIDE
    start, stop = (math.log(low), math.log(high)) if logs else (low, high)

    def place(number: float) -> float:
        return 0.5 if stop == start else ((math.log(number) if logs else number) - start) / (stop - start)

    return _Axis(np.array([place(number) for number in numbers]), {place(n): word for n, word in ticks.items()})


def _even(numbers: Sequence[float]) -> dict[float, str]:
    """Ticks evenly along the axis, the ends among them, in as many digits as they can be told apart by."""
    low, high = min(numbers), max(numbers)
    logs = low > 0 and high / low >= _WIDE
    ticks = np.geomspace(low, high, _TICKS) if logs else np.linspace(low, high, _TICKS)
    ticks = np.clip(ticks, low, high)
    near = 0.01 * (high - low)
    digits = next((d for d in range(3, _DIGITS) if all(abs(float(f"{t:.{d}g}") - t) <= near for t in ticks)), _DIGITS)
    return {float(tick): f"{tick:.{3 if logs else digits}g}" for tick in ticks}


def _draw_lines(
    canvas: Axes, axes: Sequence[_Axis], values: Sequence[float], stopped: Sequence[bool], best: str
) -> _Colour | None:
    """Draw each job's line; the best one's colour, where one came to its end."""
    shades = axes[-1].places if best == "maximize" else 1 - axes[-1].places
    complete = [i for i in range(len(values)) if not stopped[i]]
    top = max(complete, key=lambda i: shades[i], default=None)
    colours = [colormaps[_COLOURS](0.1 + 0.9 * shade) for shade in shades]
    for i in np.argsort(shades, kind="stable"):
        canvas.plot(
            range(len(axes)),
            [axis.places[i] for axis in axes],
            "--" if stopped[i] else "-",
            color=colours[i],
            linewidth=3.4 if i == top else 1.5,
            alpha=1.0 if i == top else 0.75,
            zorder=3 if i == top else 2,
        )
    return None if top is None else colours[top]


def _draw_axis(canvas: Axes, place: int, name: str, axis: _Axis) -> None:
    canvas.axvline(place, ymin=0.05, ymax=0.95, color=FAINT, linewidth=1.0, zorder=1)
    for height, text in axis.ticks.items():
        canvas.plot([place - 0.02, place + 0.02], [height, height], color=FAINT, linewidth=1.0)
        label = canvas.annotate(shorten(text, 18), (place, height), (5, 0), textcoords="offset points")
        label.set(fontsize=9, va="center", zorder=5)
        label.set_bbox({"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 1.0})
    words = name.replace(".", ".\n", 1) if "." in name else name.replace("/", "/\n", 1)
    canvas.annotate(words, (place, 1.06), (0, 2), textcoords="offset points", ha="center", va="bottom", weight="bold")
