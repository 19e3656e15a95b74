"""What the student and the teacher are shown: the views of a few training images, side by side."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from deitlt.figures.style import FAINT, INK, house_style, save_figure, shorten

# The page's measures, in inches.
_PANEL, _GAP, _CAPTION, _HEAD, _MARGIN, _GUTTER = 1.8, 0.1, 0.34, 0.1, 0.12, 0.35
_COARSE = 96  # pixels; smaller images are shown pixel by pixel
_LETTERS = 26  # of a caption that fit one panel's width
_ONE_BLOCK = 4  # examples that stand below each other; more make two blocks


@dataclass(frozen=True)
class ViewExample:
    """One training image as the student and the teacher see it.

    student: [H, W, 3]; teacher: [h, w, 3]; original: [H', W', 3] or None where it is not kept. All either
    uint8, or floats in [0, 1] without normalisation. caption: the targets, such as '0.63 cat + 0.37 dog'.
    """

    student: NDArray[Any]
    teacher: NDArray[Any]
    caption: str
    original: NDArray[Any] | None = None


@dataclass(frozen=True)
class _Page:
    """Where things stand: `lines` rows of `panels` pictures in each of `blocks` blocks."""

    blocks: int
    lines: int
    panels: int

    @property
    def block_width(self) -> float:
        return self.panels * (_PANEL + _GAP) - _GAP

    @property
    def size(self) -> tuple[float, float]:
        width = self.blocks * (self.block_width + _GUTTER) - _GUTTER + 2 * _MARGIN
        return width, self.lines * (_PANEL + _CAPTION) + _HEAD + 2 * _MARGIN

    def place(self, example: int, panel: int) -> tuple[float, float]:
        """The lower left corner of a picture, in inches from the page's lower left corner."""
        block, line = divmod(example, self.lines)
        x = _MARGIN + block * (self.block_width + _GUTTER) + panel * (_PANEL + _GAP)
        return x, _MARGIN + (self.lines - 1 - line) * (_PANEL + _CAPTION)


def view_grid(rows: Sequence[ViewExample], path: Path) -> Path:
    """Draw originals, student's and teacher's views side by side, each row under its targets.

    From five examples on they stand in two blocks beside each other. Without any original there is no
    column for them.

    Args:
        rows: the examples, at least one.
        path: the picture's file.

    Returns:
        The path.
    """
    assert rows, "a grid of views needs an example"
    blocks = 2 if len(rows) > _ONE_BLOCK else 1
    panels = 3 if any(row.original is not None for row in rows) else 2
    page = _Page(blocks, -(-len(rows) // blocks), panels)
    with house_style():
        figure = Figure(figsize=page.size)
        for i, row in enumerate(rows):
            _example(figure, page, i, row)
        return save_figure(figure, path)


def _example(figure: Figure, page: _Page, index: int, row: ViewExample) -> None:
    views = [("original", row.original), ("student's view", row.student), ("teacher's view", row.teacher)]
    for panel, (head, view) in enumerate(views[3 - page.panels :]):
        x, y = page.place(index, panel)
        if view is not None:
            _image(figure, page, (x, y), view)
        if index % page.lines == 0:
            size = "" if view is None else f", {view.shape[1]} px"
            _write(figure, page, (x, y + _PANEL + _CAPTION), head + size, FAINT, "bold")
    x, y = page.place(index, 0)
    caption = shorten(row.caption, _LETTERS * page.panels)
    _write(figure, page, (x, y + _PANEL + 0.07), caption, INK, "normal")


def _image(figure: Figure, page: _Page, corner: tuple[float, float], view: NDArray[Any]) -> None:
    width, height = page.size
    axes = figure.add_axes((corner[0] / width, corner[1] / height, _PANEL / width, _PANEL / height))
    axes.set_axis_off()
    pixels = view if view.dtype == np.uint8 else np.clip(view.astype(np.float32), 0.0, 1.0)
    axes.imshow(pixels, interpolation="nearest" if max(view.shape[:2]) < _COARSE else "antialiased")


def _write(figure: Figure, page: _Page, corner: tuple[float, float], text: str, color: str, weight: str) -> None:
    width, height = page.size
    figure.text(corner[0] / width, corner[1] / height, text, color=color, weight=weight, fontsize=9)
