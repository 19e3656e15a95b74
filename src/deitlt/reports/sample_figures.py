"""Figures of images: what becomes of training images, and where in an image each token looks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.layout_engine import ConstrainedLayoutEngine
from numpy.typing import NDArray

from deitlt.reports.analysis_figures import TOKEN_WORDS
from deitlt.reports.figures import FAINT, INK, shorten, styled

# The page's measures, in inches.
_PANEL, _GAP, _CAPTION, _HEAD, _TITLE, _MARGIN, _GUTTER = 1.8, 0.1, 0.34, 0.1, 0.36, 0.12, 0.35
_COARSE = 96  # pixels; smaller images are shown pixel by pixel
_LETTERS = 26  # of a caption that fit one panel's width
_TITLE_LETTERS = 21  # of a title, which is larger
_ONE_BLOCK = 4  # examples that stand below each other; more make two blocks
_WIDE = 3  # pictures of an example; with more of them there is one block only
_ROLLOUT: Final = (1.7, 0.75, 1.5, 1.0)  # inches: a panel, the head, the captions, the colour bar
_LEAST_TOP: Final = 2.0  # times the even share; without it attention that is nearly even would look sharp


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


@styled
def view_grid(rows: Sequence[ViewExample], title: str = "") -> Figure:
    """Each example's pictures side by side under its caption.

    The columns are those that any example has, in the order in which they first appear. From five examples
    on they stand in two blocks beside each other, unless their rows are long.

    Args:
        rows: the examples, at least one with a picture.
        title: of the whole page, or '' for none; cut where the page is too narrow for it.
    """
    columns = tuple(dict.fromkeys(column for row in rows for column in row.pictures))
    assert columns, "a grid of views needs a picture"
    blocks = 2 if len(rows) > _ONE_BLOCK and len(columns) <= _WIDE else 1
    page = _Page(blocks, -(-len(rows) // blocks), columns, _TITLE if title else 0.0)
    figure = Figure(figsize=page.size)
    for i, row in enumerate(rows):
        _example(figure, page, i, row)
    _heads(figure, page, rows)
    if title:
        fitting = shorten(title, page.blocks * len(page.columns) * _TITLE_LETTERS)
        _write(figure, page, (_MARGIN, page.size[1] - _MARGIN - 0.17), fitting, INK, "bold", 12)
    return figure


@dataclass(frozen=True)
class RolloutExample:
    """One image and what its tokens roll out to.

    image: [H, W, 3], floats in [0, 1] without normalisation, or uint8. rollouts: 'cls', 'dist' -> [h, w], a share for
    each patch. caption: the truth and what the tokens say.
    """

    image: NDArray[Any]
    rollouts: Mapping[str, NDArray[Any]]
    caption: str


@styled
def attention_rollouts(examples: Sequence[RolloutExample], title: str) -> Figure:
    """A row for each image: itself, then each token's rollout, patch by patch, in multiples of the even share.

    The even share is 1 / patches, what each would get of attention that looks nowhere in particular. One scale is for
    the whole picture, so that colours compare places, tokens and images; the image itself is not mixed in, for its own
    light and dark would look like attention.

    Args:
        examples: the images, at least one.
        title: of the whole picture.
    """
    assert examples, "a picture of rollouts needs an image"
    tokens = list(examples[0].rollouts)
    greatest = max(float(_over_even(shares).max()) for one in examples for shares in one.rollouts.values())
    top = max(_LEAST_TOP, greatest)
    scale = TwoSlopeNorm(1.0, 0.0, top)
    panel, head, captions, bar = _ROLLOUT
    size = ((1 + len(tokens)) * panel + captions + bar, len(examples) * panel + head)
    figure = Figure(figsize=size, layout=ConstrainedLayoutEngine(w_pad=0.08))
    grid = figure.subplots(len(examples), 1 + len(tokens), squeeze=False)
    maps = [_rollout_row(row, example, tokens, scale) for row, example in zip(grid, examples, strict=True)]
    for axes, words in zip(grid[0], ["image", *(TOKEN_WORDS.get(token, token) for token in tokens)], strict=True):
        axes.set_title(words, fontsize=9, color=FAINT, loc="center", pad=4)
    _colour_bar(figure, maps[0], grid[:, 1:].ravel().tolist(), top)
    figure.suptitle(title, x=0.01, ha="left")
    return figure


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


def _rollout_row(row: Sequence[Axes], example: RolloutExample, tokens: Sequence[str], scale: TwoSlopeNorm) -> AxesImage:
    """Draw one image and its maps; one of these, for the colour bar."""
    for axes in row:
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set(visible=True, linewidth=0.5)  # an even map is as white as the paper
    smooth = "nearest" if max(example.image.shape[:2]) < _COARSE else "antialiased"
    row[0].imshow(example.image, interpolation=smooth)
    row[0].set_ylabel(shorten(example.caption, 60), rotation=0, ha="right", va="center", fontsize=8, labelpad=8)
    shares = [_over_even(example.rollouts[token]) for token in tokens]
    maps = [axes.imshow(s, "RdBu_r", scale, interpolation="nearest") for axes, s in zip(row[1:], shares, strict=True)]
    return maps[-1]


def _over_even(shares: NDArray[Any]) -> NDArray[Any]:
    """shares: [h, w], which sum to 1 -> [h, w] in multiples of 1 / (h w)."""
    return np.asarray(shares, dtype=np.float64) * shares.size


def _colour_bar(figure: Figure, drawn: AxesImage, beside: list[Axes], top: float) -> None:
    """The colours' meaning, with the even share marked."""
    ticks = [0.0, 0.5, 1.0, (1 + top) / 2, top]
    bar = figure.colorbar(drawn, ax=beside, ticks=ticks, fraction=0.04, aspect=30)
    bar.ax.set_yticklabels([f"{tick:.2g}" for tick in ticks], fontsize=8)
    bar.set_label("times the even share\n1: as much as by chance", fontsize=8)
