"""One look for all pictures: colours, fonts, and how a picture gets to disk.

The series' colours are Okabe and Ito's colour-blind safe set; the groups' run from dark to bright, so that
head, mid and tail stay in order in grey print too. No function here or beside touches pyplot's global state.
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

GROUP_COLOURS: Final = {"head": "#353a7d", "mid": "#72b0d6", "tail": "#f2b134"}
UNGROUPED: Final = "#b5b5b5"
INK: Final = "#333333"
FAINT: Final = "#8a8a8a"
FEW_CLASSES: Final = 20  # up to here each class has its name on the axis
DPI: Final = 150

_RC: Final[dict[Any, Any]] = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.axisbelow": True,
    "text.color": INK,
    "text.parse_math": False,  # a class may be called "$5 note"
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": "#d9d9d9",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "figure.facecolor": "white",
}


@dataclass(frozen=True)
class SeriesStyle:
    """How one model or token is drawn everywhere."""

    colour: str
    marker: str
    line: str = "-"


_SERIES: Final = {
    "plain vit": SeriesStyle("#cc79a7", "X"),
    "teacher": SeriesStyle("#4d4d4d", "s"),
    "dist": SeriesStyle("#d55e00", "D"),
    "avg": SeriesStyle("#009e73", "^"),
    "cls": SeriesStyle("#0072b2", "o"),
}
_SPARE: Final = tuple(
    SeriesStyle(colour, marker)
    for colour, marker in (("#882255", "v"), ("#999933", "P"), ("#56b4e9", "p"), ("#117733", "h"))
)


def series_style(name: str, position: int = 0) -> SeriesStyle:
    """The style of a series by its name: 'student CLS' is drawn as 'CLS' is, an EMA dashed.

    Args:
        name: such as 'teacher', 'CLS', 'DIST', 'AVG', 'plain ViT'.
        position: which of the spare styles an unknown name gets.
    """
    lowered = name.lower()
    known = next((style for key, style in _SERIES.items() if key in lowered), None)
    style = known or _SPARE[position % len(_SPARE)]
    average = re.search(r"\bema\b", lowered)
    return replace(style, line="--") if average else style


def group_colour(name: str) -> str:
    """The colour of 'head', 'mid' or 'tail'; grey for anything else."""
    return GROUP_COLOURS.get(name, UNGROUPED)


@contextmanager
def house_style() -> Iterator[None]:
    """Matplotlib's settings for the pictures made inside; the caller's own are left as they were."""
    with matplotlib.rc_context(_RC):
        yield


def shorten(text: str, letters: int) -> str:
    """The text, cut with an ellipsis where it is longer than that many letters."""
    return text if len(text) <= letters else text[: letters - 1] + "…"


def label_classes(axes: Axes, names: Sequence[str]) -> None:
    """Class names under the axis, slanted where they would touch each other."""
    axes.set_xticks(range(len(names)), [shorten(name, 24) for name in names])
    axes.tick_params(axis="x", length=0)
    if len(names) * max(map(len, names), default=0) > 105:
        for label in axes.get_xticklabels():
            label.set(rotation=35, horizontalalignment="right", rotation_mode="anchor")


def group_spans(order: np.ndarray, groups: Mapping[str, Sequence[int]]) -> list[tuple[str, int, int]]:
    """The stretches of neighbouring classes of one group on an axis sorted by frequency.

    Args:
        order: [C] class ids as they stand on the axis.
        groups: group -> class ids.

    Returns:
        (group, first position, last position + 1), from left to right; classes of no group are named ''.
    """
    group_of = {int(member): name for name, members in groups.items() for member in members}
    names = [group_of.get(int(label), "") for label in order]
    starts = [i for i, name in enumerate(names) if i == 0 or name != names[i - 1]]
    return [(names[a], a, b) for a, b in zip(starts, [*starts[1:], len(names)], strict=True)]


def save_figure(figure: Figure, path: Path) -> Path:
    """Write the picture in one piece: a reader sees the old file or the new one, never a half.

    Args:
        figure: what to draw.
        path: the target; its suffix is the format (png, pdf, svg). Folders are made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        figure.savefig(draft, format=path.suffix.lstrip(".") or "png", dpi=DPI)
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)
    return path
