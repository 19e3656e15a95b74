"""The look of all figures, how they reach a file or the page, and the two kinds of charts: lines and bars.

A function a quantity returns a matplotlib Figure: `save_figure` writes it as PNG into a run (and so to W&B), `svg_of`
as SVG into the page, where its colours follow the page's light and dark. The series' colours are Okabe and Ito's
colour-blind safe set; the groups' run from dark to bright. Nothing here touches pyplot's global state.
"""

import io
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree

import matplotlib
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from deitlt.reports.runs import Points, in_group_order

# The page's tokens (templates/style.css) in its light scheme: in the page, a colour of a figure is its token.
COLOURS: Final = {
    **{"ink": "#1f2328", "faint": "#5d646d", "rule": "#dfdfd9", "paper": "#ffffff"},
    **{"cls": "#0072b2", "dist": "#d55e00", "avg": "#009e73", "teacher": "#4d4d4d", "vit": "#cc79a7"},
    **{"patches": "#7a7a7a", "head": "#353a7d", "mid": "#72b0d6", "tail": "#f2b134"},
    **{"s3": "#882255", "s4": "#8a7a00"},
}
INK, FAINT, RULE, PAPER = (COLOURS[name] for name in ("ink", "faint", "rule", "paper"))
UNGROUPED: Final = "#b5b5b5"
# The quantities' names and units, in the page as in a run's pictures.
ATTENTION: Final = "mean attention distance, pixels"
RANKS: Final = {"components": "components for 99 % of the variance", "effective": "effective rank"}
DISAGREEMENT: Final = "images on which CLS and DIST differ, %"
COSINE: Final = "1 - cosine of CLS and DIST"
PANEL: Final = (3.75, 2.5)  # inches: what a phone's width shows with letters of twelve pixels
_DPI: Final = 180
_FEW_POINTS: Final = 16  # points of a line that all have a marker
_LABELLED: Final = 24  # bars that have room for their numbers

_RC: Final[dict[Any, Any]] = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.titleweight": "normal",
    "axes.titlelocation": "left",
    "axes.titlecolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": FAINT,
    "axes.axisbelow": True,
    "text.color": INK,
    "text.parse_math": False,  # a class may be called "$5 note"
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "figure.facecolor": "white",
    "figure.titlesize": 11,
    "figure.titleweight": "bold",
    "svg.fonttype": "none",
    "svg.hashsalt": "deitlt",
}
_SVG, _LINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
ElementTree.register_namespace("", _SVG)


@dataclass(frozen=True)
class SeriesStyle:
    """How one model, token or group is drawn everywhere."""

    colour: str
    marker: str
    line: str = "-"


_SERIES: Final = {
    **{"plain vit": SeriesStyle(COLOURS["vit"], "X"), "teacher": SeriesStyle(COLOURS["teacher"], "s")},
    **{"dist": SeriesStyle(COLOURS["dist"], "D"), "avg": SeriesStyle(COLOURS["avg"], "^")},
    **{"cls": SeriesStyle(COLOURS["cls"], "o"), "patches": SeriesStyle(COLOURS["patches"], "_")},
}
_GROUPS: Final = {
    **{"head": SeriesStyle(COLOURS["head"], "s"), "mid": SeriesStyle(COLOURS["mid"], "o")},
    **{"tail": SeriesStyle(COLOURS["tail"], "^"), "all": SeriesStyle(INK, "_")},
}
_SPARE: Final = tuple(
    SeriesStyle(COLOURS[name], marker)
    for name, marker in zip(("cls", "dist", "avg", "s3", "s4", "teacher"), "^sDXop", strict=True)
)


def series_style(name: str, position: int = 0) -> SeriesStyle:
    """The style of a series by its name: 'student CLS' is drawn as 'CLS' is, an EMA dashed, a group in its colour.

    Args:
        name: such as 'teacher', 'CLS', 'DIST', 'AVG', 'plain ViT', 'tail'.
        position: which of the spare styles an unknown name gets.
    """
    lowered = name.lower()
    known = _GROUPS.get(lowered) or next((style for key, style in _SERIES.items() if key in lowered), None)
    style = known or spare_style(position)
    return replace(style, line="--") if re.search(r"\bema\b", lowered) else style


def spare_style(position: int) -> SeriesStyle:
    """The style of what has no style of its own, such as one of several experiments."""
    return _SPARE[position % len(_SPARE)]


def group_colour(name: str) -> str:
    """The colour of 'head', 'mid' or 'tail', ink for 'all', grey for anything else."""
    return _GROUPS[name].colour if name in _GROUPS else UNGROUPED


styled = matplotlib.rc_context(
    _RC
)  # a decorator: inside it these settings hold, and the caller's own stay as they were


def save_figure(figure: Figure, path: Path) -> Path:
    """Write the figure in one piece: a reader sees the old file or the new one, never a half.

    Args:
        figure: what to draw.
        path: the target; its suffix is the format (png, pdf, svg). Folders are made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with matplotlib.rc_context(_RC):
            figure.savefig(draft, format=path.suffix.lstrip(".") or "png", dpi=_DPI)
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)
    return path


def svg_of(figure: Figure, alt: str) -> Markup:
    """The figure as an SVG element of a page: text is text, colours are the page's tokens.

    Args:
        figure: what to draw.
        alt: what it shows, with numbers, for who cannot see it.
    """
    text = io.StringIO()
    with matplotlib.rc_context(_RC):
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    root = ElementTree.fromstring(text.getvalue())
    for element in list(root):
        if element.tag != f"{{{_SVG}}}g":  # what the file says of itself, and a style for the whole page
            root.remove(element)
    _inline_markers(root)
    for element in root.iter():
        for name in ("id", "clip-path"):  # nothing is linked to, nor drawn outside of its axes
            element.attrib.pop(name, None)
        if style := element.get("style"):
            for token, colour in COLOURS.items():
                style = style.replace(colour, f"var(--{token})")
            element.set("style", style)
    root.attrib = {"viewBox": root.attrib["viewBox"], "role": "img", "aria-label": alt}
    return Markup(ElementTree.tostring(root, encoding="unicode"))  # nosec: escaped by the writer


def _inline_markers(root: ElementTree.Element) -> None:
    """Put each marker's path where it is used: ids would have to differ from those of all other figures of a page."""
    known = {path.get("id"): path for path in root.iter(f"{{{_SVG}}}path")}
    for parent in list(root.iter()):
        for use in parent.findall(f"{{{_SVG}}}use"):
            path = known[use.get(f"{{{_LINK}}}href", "")[1:]]
            place = f"translate({float(use.get('x', 0)):.2f} {float(use.get('y', 0)):.2f})"
            style = use.get("style") or path.get("style") or ""
            marker = ElementTree.Element(
                f"{{{_SVG}}}path", {"d": path.get("d", ""), "transform": place, "style": style}
            )
            parent.insert(list(parent).index(use), marker)
            parent.remove(use)
        for unused in parent.findall(f"{{{_SVG}}}defs"):
            parent.remove(unused)


def canvas(size: tuple[float, float], title: str) -> Figure:
    """An empty figure of a size in inches, under its title, if there is one."""
    figure = Figure(figsize=size, layout="constrained")
    if title:
        figure.suptitle(title, x=0.01, ha="left")
    return figure


def _panels(number: int, title: str, size: tuple[float, float] = PANEL) -> tuple[Figure, list[Axes]]:
    """A figure with so many panels side by side; size: of a panel, in inches."""
    figure = canvas((number * size[0], size[1] + 0.3 * bool(title)), title)
    return figure, list(figure.subplots(1, number, squeeze=False)[0])


def add_legend(figure: Figure, handles: Sequence[Any], names: Sequence[str]) -> None:
    """The legend below the axes, in as many columns as the figure has room for."""
    widths = [0.5 + 0.085 * len(name) for name in names]
    room = figure.get_figwidth()
    columns = len(names) if sum(widths) <= room else max(1, int(room / max(widths)))
    figure.legend(handles, names, loc="outside lower left", ncols=columns, columnspacing=1.2, handletextpad=0.5)


def shorten(text: str, letters: int) -> str:
    """The text, cut with an ellipsis where it is longer than that many letters."""
    return text if len(text) <= letters else text[: letters - 1] + "…"


@styled
def line_panels(
    panels: Mapping[str, Mapping[str, Points]],
    x_name: str,
    title: str = "",
    looks: Mapping[str, SeriesStyle] | None = None,
    mark: tuple[float, str] | None = None,
    named: bool | None = None,
) -> Figure:
    """Lines over epochs or blocks, a panel a quantity.

    Args:
        panels: the quantity with its unit (over its panel; '' for none) -> series -> (x, y) from left to right.
        x_name: of the horizontal axis.
        title: of the whole figure.
        looks: series -> its style, for those that their names do not give.
        mark: where a vertical line stands, and what it says.
        named: whether there is a legend; None: where there are several series.
    """
    figure, axes = _panels(len(panels), title)
    drawn: dict[str, Any] = {}
    for place, (words, lines) in zip(axes, panels.items(), strict=True):
        for i, (name, points) in enumerate(lines.items()):
            style, every = (looks or {}).get(name) or series_style(name, i), max(1, len(points) // 5)
            look: dict[str, Any] = {"color": style.colour, "linestyle": style.line, "marker": style.marker}
            look |= {"markersize": 5.5, "markeredgewidth": 0.7}
            look["markeredgecolor"] = style.colour if style.marker == "_" else PAPER
            look["markevery"] = 1 if len(points) <= _FEW_POINTS else (every // 2, every)
            look["linewidth"] = 2.8 if i == 0 and len(lines) > 1 else 1.6  # where it is equal, the first shows behind
            (drawn[name],) = place.plot(*zip(*points, strict=True), **look)
        _finish_lines(place, words, x_name)
        if mark:
            _mark(place, *mark)
    if named or (named is None and len(drawn) > 1):
        add_legend(figure, list(drawn.values()), list(drawn))
    return figure


def _finish_lines(axes: Axes, words: str, x_name: str) -> None:
    low, high = axes.dataLim.intervaly
    ticks = MaxNLocator(4, steps=[1, 2, 2.5, 5, 10])
    ends = ticks.tick_values(min(low, 0.0), max(high, 0.0) or 1.0)  # the axis ends at round values
    axes.set_ylim(ends[0], ends[-1])
    axes.margins(x=0.03)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))
    axes.yaxis.set_major_locator(ticks)
    axes.grid(axis="y")
    axes.tick_params(length=0)
    axes.spines["left"].set_visible(False)
    axes.set_xlabel(x_name, loc="right", labelpad=1)
    if words:
        axes.set_title(words)


def _mark(axes: Axes, place: float, words: str) -> None:
    left = place > sum(axes.get_xlim()) / 2
    axes.axvline(place, color=FAINT, linewidth=0.8, linestyle=(0, (3, 3)))
    axes.annotate(words, (place, 1), (-3 if left else 3, -1), xycoords=("data", "axes fraction"), color=FAINT,
                  textcoords="offset points", ha="right" if left else "left", va="top", fontsize=9)  # fmt: skip


@styled
def bar_panels(
    panels: Mapping[str, Mapping[str, Mapping[str, float]]],
    number: str = "{:.1f}",
    percent: bool = False,
    title: str = "",
    errors: Mapping[str, Mapping[str, float]] | None = None,
) -> Figure:
    """Bars in clusters, a panel a quantity; what is absent leaves its place empty.

    Args:
        panels: the quantity with its unit -> cluster -> bar, by whose name it is coloured -> height. Clusters of one
            bar each need no legend.
        number: how a height is written over its bar.
        percent: whether the first axis goes from 0 to 100.
        title: of the whole figure.
        errors: quantity -> cluster -> the standard error of its bars, where it has one.
    """
    names = list(dict.fromkeys(bar for found in panels.values() for bars in found.values() for bar in bars))
    alone = all(len(bars) == 1 for found in panels.values() for bars in found.values())
    bars_drawn = max(map(len, panels.values()), default=1) * (1 if alone else len(names))
    figure, axes = _panels(len(panels), title, (min(max(0.3 * (4 + bars_drawn), PANEL[0]), 8.0), PANEL[1] + 0.3))
    drawn: dict[str, Any] = {}
    for place, (words, found) in zip(axes, panels.items(), strict=True):
        slots = 1 if alone else len(names)
        for i, name in enumerate(names):
            shift = 0.0 if alone else (i - (slots - 1) / 2) * 0.82 / slots
            heights = {at + shift: bars[name] for at, bars in enumerate(found.values()) if name in bars}
            known = (errors or {}).get(words, {})
            spread = [known.get(cluster, 0.0) for cluster, bars in found.items() if name in bars]
            look: dict[str, Any] = {"color": series_style(name, i).colour, "ecolor": INK, "capsize": 4}
            look["yerr"] = spread if any(spread) else None
            drawn[name] = place.bar([*heights], [*heights.values()], 0.75 / slots, **look)
            if bars_drawn <= _LABELLED:
                texts = [number.format(height) for height in heights.values()]
                place.bar_label(drawn[name], texts, padding=2, fontsize=8, color=FAINT)
        place.set_xticks(range(len(found)), list(found))
        place.set_title(words)
        place.margins(x=0.04, y=0.14)
        place.tick_params(axis="x", length=0, labelcolor=INK)
        place.grid(axis="y")
    if percent:
        axes[0].set(ylim=(0, 105), yticks=range(0, 101, 20))
    if not alone:
        add_legend(figure, list(drawn.values()), names)
    return figure


def group_bars(values: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """One bar for each group of a panel, in the groups' order: group -> value as `bar_panels` takes it."""
    return {name: {name: values[name]} for name in in_group_order([*values])}
