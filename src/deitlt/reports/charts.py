"""Line charts as SVG that a page holds: colours come from the page's style, so they follow its light and dark."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from markupsafe import Markup, escape

from deitlt.reports.scales import Scale, number, scale_of

# In units of the picture, of which a phone of 360 pixels shows about nine tenths: letters of 13 stay above 11.
_WIDTH, _HEIGHT = 360, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 10, 10, 38
_FEW: Final = 16  # points of a line that all have a marker, and its value as a hint
_SPARSE: Final = 5  # markers on a longer line: they tell the lines apart without colour
_MOST: Final = 240  # points of a line that are drawn
_MARKERS: Final = {
    "circle": "M-3.2,0a3.2,3.2 0 1,0 6.4,0a3.2,3.2 0 1,0 -6.4,0z",
    "diamond": "M0,-4.2L4.2,0L0,4.2L-4.2,0z",
    "triangle": "M0,-4L4,3.2L-4,3.2z",
    "square": "M-3,-3h6v6h-6z",
    "cross": "M-3.6,-2L-2,-3.6L0,-1.6L2,-3.6L3.6,-2L1.6,0L3.6,2L2,3.6L0,1.6L-2,3.6L-3.6,2L-1.6,0z",
    "bar": "M-4,-1.8h8v3.6h-8z",
}
# Look of a line -> its marker: as in the pictures.
LOOKS: Final = {
    **{"cls": "circle", "dist": "diamond", "avg": "triangle", "teacher": "square", "vit": "cross", "patches": "bar"},
    **{"head": "square", "mid": "circle", "tail": "triangle", "all": "bar", "plain": "circle"},
    **{f"s{i}": ("triangle", "square", "diamond", "cross", "circle", "bar")[i] for i in range(6)},
}


@dataclass(frozen=True)
class Line:
    """points: (x, y) from left to right. look: of `LOOKS`."""

    name: str
    look: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class LegendEntry:
    """A line's name beside a sample of it."""

    name: str
    look: str
    sample: Markup


@dataclass(frozen=True)
class Chart:
    """A picture with its words.

    alt: what it shows, with numbers, for who cannot see it. note: a sentence under it. compares: whether each line is
    of another experiment, so that one alone needs its name, too.
    """

    title: str
    svg: Markup
    alt: str
    legend: Sequence[LegendEntry]
    note: str = ""
    compares: bool = False


def line_chart(
    title: str,
    lines: Sequence[Line],
    x_name: str,
    log: bool = False,
    mark: tuple[float, str] | None = None,
    note: str = "",
) -> Chart:
    """Draw lines over a common axis.

    Args:
        title: what is drawn, with its unit.
        lines: at least one, each with a point or more.
        x_name: of the horizontal axis.
        log: whether the values may be drawn on a logarithmic axis, where they span much.
        mark: where a vertical line stands, and what it says.
        note: a sentence under it, or nothing.
    """
    lines = [Line(line.name, line.look, _thinned(line.points)) for line in lines]
    xs = [x for line in lines for x, _ in line.points]
    x = Scale(min(xs), max(xs), _LEFT, _WIDTH - _RIGHT)
    y = scale_of((v for line in lines for _, v in line.points), _HEIGHT - _BOTTOM, _TOP, log)
    parts = [*_y_axis(y), *_x_axis(x, x_name), *(_marked(x, *mark) if mark else ())]
    parts += [part for line in lines for part in _drawn(line, x, y, x_name)]
    alt = f"{title}. " + " ".join(_in_words(line, x_name) for line in lines)
    svg = Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        _WIDTH, _HEIGHT, alt, Markup("").join(parts)
    )
    legend = [LegendEntry(line.name, line.look, _sample(line.look)) for line in lines]
    return Chart(title, svg, alt, legend, note)


def _thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Not more points than can be seen, the last among them."""
    every = -(-len(points) // _MOST)
    kept = list(points[::every])
    return kept if kept[-1] == points[-1] else [*kept, points[-1]]


def _y_axis(scale: Scale) -> Iterator[Markup]:
    for tick in scale.ticks():
        y = f"{scale.place(tick):.1f}"
        yield Markup('<path class="grid" d="M{},{}H{}"/>').format(_LEFT, y, _WIDTH - _RIGHT)
        yield Markup('<text class="tick end" x="{}" y="{}" dy=".35em">{}</text>').format(_LEFT - 6, y, number(tick))


def _x_axis(scale: Scale, name: str) -> Iterator[Markup]:
    base = _HEIGHT - _BOTTOM
    yield Markup('<path class="axis" d="M{},{}H{}"/>').format(_LEFT, base, _WIDTH - _RIGHT)
    for tick in scale.ticks():
        if tick == int(tick):  # epochs and blocks are whole
            x = f"{scale.place(tick):.1f}"
            yield Markup('<text class="tick mid" x="{}" y="{}">{}</text>').format(x, base + 16, number(tick))
    yield Markup('<text class="tick end" x="{}" y="{}">{}</text>').format(_WIDTH - _RIGHT, _HEIGHT - 6, name)


def _marked(scale: Scale, place: float, words: str) -> Iterator[Markup]:
    x = f"{scale.place(place):.1f}"
    yield Markup('<path class="mark" d="M{},{}V{}"/>').format(x, _TOP, _HEIGHT - _BOTTOM)
    side = ("end", -4) if scale.place(place) > _WIDTH / 2 else ("start", 4)
    text = Markup('<text class="tick {}" x="{}" dx="{}" y="{}">{}</text>')
    yield text.format(side[0], x, side[1], _TOP + 9, words)


def _drawn(line: Line, x: Scale, y: Scale, x_name: str) -> Iterator[Markup]:
    places = [(x.place(a), y.place(b)) for a, b in line.points]
    path = "L".join(f"{a:.1f},{b:.1f}" for a, b in places)
    yield Markup('<path class="line look-{}" d="M{}"/>').format(line.look, path)
    every = 1 if len(places) <= _FEW else -(-len(places) // _SPARSE)
    for (a, b), (at, value) in list(zip(places, line.points, strict=True))[(every - 1) // 2 :: every]:
        hint = f"{line.name}, {x_name} {number(at)}: {number(value)}"
        yield Markup('<path class="dot look-{}" d="{}" transform="translate({},{})"><title>{}</title></path>').format(
            line.look, _MARKERS[LOOKS[line.look]], f"{a:.1f}", f"{b:.1f}", hint
        )


def _sample(look: str) -> Markup:
    return Markup(
        '<svg class="sample" viewBox="-11 -6 22 12" aria-hidden="true"><path class="line look-{0}" d="M-11,0H11"/>'
        '<path class="dot look-{0}" d="{1}"/></svg>'
    ).format(escape(look), _MARKERS[LOOKS[look]])


def _in_words(line: Line, x_name: str) -> str:
    """'CLS: 2.24 at epoch 1, 0.56 at epoch 150.'."""
    ends = [line.points[0]] if len(line.points) == 1 else [line.points[0], line.points[-1]]
    return f"{line.name}: {', '.join(f'{number(v)} at {x_name} {number(at)}' for at, v in ends)}."
