"""Parallel coordinates: each job of a sweep is a line through its settings to what it reached."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from deitlt.reports.figures import FAINT, add_legend, canvas, shorten, styled

_COLOURS = "viridis_r"
_WIDE = 5.0  # largest by smallest value from which an axis is logarithmic
_FEW = 8  # different numbers up to which each has its tick
_TICKS = 5
_DIGITS = 8  # nobody types more of a number


class Axis(NamedTuple):
    """places: [N] where the lines cross an axis, in [0, 1]. ticks: place -> text."""

    places: NDArray[np.float64]
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
    axes = {key: make_axis(words) for key, words in settings.items()}
    axes[metric] = make_axis([str(value) for value in values], few=0)
    figure = canvas((2.2 + 2.3 * (len(axes) - 1), 4.6), "")
    drawn = figure.add_subplot()
    shades = axes[metric].places if best == "maximize" else 1 - axes[metric].places
    top = max((i for i, early in enumerate(stopped) if not early), key=lambda i: shades[i], default=None)
    colours = [colormaps[_COLOURS](0.1 + 0.9 * shade) for shade in shades]
    for i in np.argsort(shades, kind="stable"):
        look: dict[str, Any] = {"linewidth": 3.4, "zorder": 3} if i == top else {"linewidth": 1.5, "alpha": 0.75}
        look |= {"color": colours[i], "linestyle": "--" if stopped[i] else "-"}
        drawn.plot(range(len(axes)), [axis.places[i] for axis in axes.values()], **look)
    for place, (name, axis) in enumerate(axes.items()):
        _draw_axis(drawn, place, name, axis)
    drawn.set(xlim=(-0.3, len(axes) - 0.45), ylim=(-0.06, 1.06), xticks=[], yticks=[])
    drawn.spines[:].set_visible(False)
    handles = [] if top is None else [Line2D([], [], color=colours[top], linewidth=3, label="best")]
    handles += [Line2D([], [], color=FAINT, linestyle="--", label="stopped early")] if any(stopped) else []
    if handles:
        add_legend(figure, handles, [str(handle.get_label()) for handle in handles])
    return figure


def make_axis(words: Sequence[str], few: int = _FEW) -> Axis:
    """An axis of numbers, where all words are some, logarithmic where they span much; else of names, evenly spaced.

    Args:
        words: [N] one a line.
        few: different numbers up to which each has its tick; of more a few are spread evenly, the ends among them.
    """
    try:
        numbers = [float(word) for word in words]
    except ValueError:
        numbers = [math.nan]
    if not all(map(math.isfinite, numbers)):
        names = sorted(set(words))
        return _scaled([float(names.index(word)) for word in words], dict(enumerate(names)), logs=False)
    low, high = min(numbers), max(numbers)
    logs = low > 0 and high / low >= _WIDE
    if len(set(numbers)) <= few:
        ticks = {n: word if len(word) <= _DIGITS else f"{n:.3g}" for n, word in zip(numbers, words, strict=True)}
        return _scaled(numbers, ticks, logs)
    even = (np.geomspace if logs else np.linspace)(low, high, _TICKS).tolist() if high > low else [low]
    # as many digits as tell them apart
    texts = next(t for d in range(3, 18) if len(set(t := [f"{tick:.{d}g}" for tick in even])) == len(even))
    return _scaled(numbers, dict(zip(even, texts, strict=True)), logs)


def _scaled(numbers: Sequence[float], ticks: Mapping[float, str], logs: bool) -> Axis:
    """Numbers and ticks between the smallest number and the largest; one number alone stands in the middle."""
    start, stop = (math.log(end) if logs else end for end in (min(numbers), max(numbers)))

    def place(number: float) -> float:
        return 0.5 if stop == start else ((math.log(number) if logs else number) - start) / (stop - start)

    return Axis(np.array([place(number) for number in numbers]), {place(n): word for n, word in ticks.items()})


def _draw_axis(drawn: Axes, place: int, name: str, axis: Axis) -> None:
    drawn.axvline(place, ymin=0.05, ymax=0.95, color=FAINT, linewidth=1.0, zorder=1)
    for height, text in axis.ticks.items():
        drawn.plot([place - 0.02, place + 0.02], [height, height], color=FAINT, linewidth=1.0)
        box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 1.0}
        drawn.annotate(shorten(text, 18), (place, height), (5, 0), textcoords="offset points", fontsize=9, va="center",
                       zorder=5, bbox=box)  # fmt: skip
    words = name.replace(".", ".\n", 1) if "." in name else name.replace("/", "/\n", 1)
    drawn.annotate(words, (place, 1.06), (0, 2), textcoords="offset points", ha="center", va="bottom", weight="bold")
