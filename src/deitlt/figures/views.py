"""What the student and the teacher are shown: the views of a few training images, side by side."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from deitlt.figures.style import FAINT, INK, house_style, save_figure, shorten

# The page's measures, in inches.
_PANEL, _GAP, _CAPTION, _HEAD, _TITLE, _MARGIN, _GUTTER = 1.8, 0.1, 0.34, 0.1, 0.36, 0.12, 0.35
_COARSE = 96  # pixels; smaller images are shown pixel by pixel
_LETTERS = 26  # of a caption that fit one panel's width
_TITLE_LETTERS = 21  # of a title, which is larger
_ONE_BLOCK = 4  # examples that stand below each other; more make two blocks
_WIDE = 3  # pictures of an example; with more of them there is one block only


@dataclass(frozen=True)
class ViewExample:
    """One training image and what becomes of it.

    pictures: column -> [H, W, 3], either uint8, or floats in [0, 1] without normalisation; an example that
    lacks a column leaves its place empty. caption: the targets, such as '63% cat + 37% dog'.
    """

    pictures: Mapping[str, NDArray[Any]]
    caption: str


@dataclass(frozen=True)
class _Page:
    """Where things stand: `lines` rows of `columns` pictures in each of `blocks` blocks, under `title` inches."""

    blocks: int
    lines: int
    columns: tuple[str, ...]
    title: float

    @property
    def block_width(self) -> float:
        return len(self.columns) * (_PANEL + _GAP) - _GAP

    @property
    def size(self) -> tuple[float, float]:
        width = self.blocks * (self.block_width + _GUTTER) - _GUTTER + 2 * _MARGIN
        return width, self.lines * (_PANEL + _CAPTION) + _HEAD + self.title + 2 * _MARGIN

    def place(self, example: int, panel: int) -> tuple[float, float]:
        """The lower left corner of a picture, in inches from the page's lower left corner."""
        block, line = divmod(example, self.lines)
        x = _MARGIN + block * (self.block_width + _GUTTER) + panel * (_PANEL + _GAP)
        return x, _MARGIN + (self.lines - 1 - line) * (_PANEL + _CAPTION)


def view_grid(rows: Sequence[ViewExample], path: Path, title: str = "") -> Path:
    """Draw each example's pictures side by side under its caption.

    The columns are those that any example has, in the order in which they first appear. From five examples
    on they stand in two blocks beside each other, unless their rows are long.

    Args:
        rows: the examples, at least one with a picture.
        path: the picture's file.
        title: of the whole page, or '' for none; cut where the page is too narrow for it.

    Returns:
        The path.
    """
    columns = tuple(dict.fromkeys(column for row in rows for column in row.pictures))
    assert columns, "a grid of views needs a picture"
    blocks = 2 if len(rows) > _ONE_BLOCK and len(columns) <= _WIDE else 1
    page = _Page(blocks, -(-len(rows) // blocks), columns, _TITLE if title else 0.0)
    with house_style():
        figure = Figure(figsize=page.size)
        for i, row in enumerate(rows):
            _example(figure, page, i, row)
        _heads(figure, page, rows)
        if title:
            _write(figure, page, (_MARGIN, page.size[1] - _MARGIN - 0.17), _fitting(title, page), INK, "bold", 12)
        return save_figure(figure, path)


def _fitting(title: str, page: _Page) -> str:
    return shorten(title, page.blocks * len(page.columns) * _TITLE_LETTERS)


def _example(figure: Figure, page: _Page, index: int, row: ViewExample) -> None:
    """One example's pictures and its caption."""
    for panel, column in enumerate(page.columns):
        if column in row.pictures:
            _image(figure, page, page.place(index, panel), row.pictures[column])
    x, y = page.place(index, 0)
    caption = shorten(row.caption, _LETTERS * len(page.columns))
    _write(figure, page, (x, y + _PANEL + 0.07), caption, INK, "normal")


def _heads(figure: Figure, page: _Page, rows: Sequence[ViewExample]) -> None:
    """Each column's name and the width of its pictures, over each block."""
    for panel, column in enumerate(page.columns):
        widths = [row.pictures[column].shape[1] for row in rows if column in row.pictures]
        least, most = min(widths), max(widths)
        head = f"{column}, {most} px" if least == most else f"{column}, {least}-{most} px"
        for first in range(0, len(rows), page.lines):
            x, y = page.place(first, panel)
            _write(figure, page, (x, y + _PANEL + _CAPTION), head, FAINT, "bold", 8)


def _image(figure: Figure, page: _Page, corner: tuple[float, float], view: NDArray[Any]) -> None:
    width, height = page.size
    axes = figure.add_axes((corner[0] / width, corner[1] / height, _PANEL / width, _PANEL / height))
    axes.set_axis_off()
    pixels = view if view.dtype == np.uint8 else np.clip(view.astype(np.float32), 0.0, 1.0)
    axes.imshow(pixels, interpolation="nearest" if max(view.shape[:2]) < _COARSE else "antialiased")


def _write(
    figure: Figure, page: _Page, corner: tuple[float, float], text: str, color: str, weight: str, size: int = 9
) -> None:
    width, height = page.size
    figure.text(corner[0] / width, corner[1] / height, text, color=color, weight=weight, fontsize=size)
