"""Figures of images: what becomes of training images, and where in an image each token looks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure
from numpy.typing import NDArray

from deitlt.reports.figures import FAINT, canvas, shorten, styled
from deitlt.reports.runs import TOKENS

_PANEL: Final = 1.8  # inches of a picture's side
_GAP, _CAPTION, _MARGIN, _GUTTER = 0.1, 0.34, 0.12, 0.35  # inches beside a picture, above it, around all, in the middle
_COARSE: Final = 96  # pixels; smaller images are shown pixel by pixel
_LETTERS: Final = 26  # of a caption that fit one panel's width; a title's are larger
_ONE_BLOCK: Final = 4  # examples that stand below each other; more make two blocks
_WIDE: Final = 3  # pictures of an example; with more of them there is one block only
_ROLLOUT: Final = (1.7, 0.75, 1.5, 1.0)  # inches: a panel, the head, the captions, the colour bar
_LEAST_TOP: Final = 2.0  # times the even share; without it attention that is nearly even would look sharp


@dataclass(frozen=True)
class ImageExample:
    """One training image and what becomes of it.

    pictures: column -> [H, W, 3], either uint8, or floats in [0, 1] without normalisation; an example that
    lacks a column leaves its place empty. caption: the targets, such as '63% cat + 37% dog'.
    """

    pictures: Mapping[str, NDArray[Any]]
    caption: str


@styled
def image_grid(rows: Sequence[ImageExample], title: str = "") -> Figure:
    """Each example's pictures side by side under its caption.

    The columns are those that any example has, in the order in which they first appear. From five examples
    on they stand in two blocks beside each other, unless their rows are long.

    Args:
        rows: the examples, at least one with a picture.
        title: of the whole page, or '' for none; cut where the page is too narrow for it.
    """
    columns = list(dict.fromkeys(column for row in rows for column in row.pictures))
    assert columns, "a grid of images needs a picture"
    heads = [_head(column, [row.pictures[column].shape[1] for row in rows if column in row.pictures])
             for column in columns]  # fmt: skip
    blocks = 2 if len(rows) > _ONE_BLOCK and len(columns) <= _WIDE else 1
    lines = -(-len(rows) // blocks)
    wide, high = len(columns) * (_PANEL + _GAP) - _GAP, lines * (_PANEL + _CAPTION) - _CAPTION
    above = 2 * _CAPTION + _CAPTION * bool(title)
    width, height = blocks * (wide + _GUTTER) - _GUTTER + 2 * _MARGIN, high + above + _MARGIN
    figure = Figure(figsize=(width, height))
    if title:
        words = shorten(title, blocks * len(columns) * (_LETTERS - 5))
        figure.suptitle(words, x=_MARGIN / width, y=1 - _MARGIN / height, ha="left")
    for block in range(blocks):
        left = _MARGIN + block * (wide + _GUTTER)
        grid = figure.add_gridspec(
            lines, len(columns), left=left / width, right=(left + wide) / width, wspace=_GAP / _PANEL,
            bottom=_MARGIN / height, top=1 - above / height, hspace=_CAPTION / _PANEL,
        )  # fmt: skip
        for panel, head in enumerate(heads):
            place = grid[0, panel].get_position(figure)
            figure.text(place.x0, place.y1 + _CAPTION / height, head, color=FAINT, weight="bold", fontsize=8)
        for line, row in enumerate(rows[block * lines : (block + 1) * lines]):
            place = grid[line, 0].get_position(figure)
            caption = shorten(row.caption, _LETTERS * len(columns))
            figure.text(place.x0, place.y1 + 0.07 / height, caption, fontsize=9)
            for panel, column in enumerate(columns):
                if column in row.pictures:
                    axes = figure.add_subplot(grid[line, panel])
                    axes.set_axis_off()
                    _show(axes, row.pictures[column])
    return figure


def _head(column: str, widths: Sequence[int]) -> str:
    """A column's name, and the width of its pictures in pixels."""
    least, most = min(widths), max(widths)
    return f"{column}, {most} px" if least == most else f"{column}, {least}-{most} px"


def _show(axes: Axes, image: NDArray[Any]) -> None:
    pixels = image if image.dtype == np.uint8 else np.clip(image.astype(np.float32), 0.0, 1.0)
    axes.imshow(pixels, interpolation="nearest" if max(image.shape[:2]) < _COARSE else "antialiased")


@dataclass(frozen=True)
class RolloutExample:
    """One image and what its tokens roll out to.

    image: [H, W, 3], floats in [0, 1] without normalisation, or uint8. rollouts: 'cls', 'dist' -> [h, w], a share for
    each patch. caption: the true class and what the tokens say.
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
    maps = [[np.asarray(one.rollouts[token], dtype=np.float64) for token in tokens] for one in examples]
    shares = [[share * share.size for share in row] for row in maps]  # in multiples of 1 / (h w)
    top = max(_LEAST_TOP, *(float(share.max()) for row in shares for share in row))
    scale = TwoSlopeNorm(1.0, 0.0, top)
    panel, head, captions, bar = _ROLLOUT
    figure = canvas(((1 + len(tokens)) * panel + captions + bar, len(examples) * panel + head), title)
    figure.set_layout_engine("constrained", w_pad=0.08)
    grid = figure.subplots(len(examples), 1 + len(tokens), squeeze=False)
    for axes in grid.flat:
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set(visible=True, linewidth=0.5)  # an even map is as white as the paper
    for row, example, beside in zip(grid, examples, shares, strict=True):
        _show(row[0], example.image)
        caption = shorten(example.caption, 60)
        row[0].set_ylabel(caption, rotation=0, ha="right", va="center", fontsize=8, labelpad=8)
        for axes, share in zip(row[1:], beside, strict=True):
            drawn = axes.imshow(share, "RdBu_r", scale, interpolation="nearest")
    for axes, words in zip(grid[0], ["image", *(TOKENS.get(token, token) for token in tokens)], strict=True):
        axes.set_title(words, fontsize=9, color=FAINT, loc="center", pad=4)
    ticks = [0.0, 0.5, 1.0, (1 + top) / 2, top]
    colours = figure.colorbar(drawn, ax=grid[:, 1:].ravel().tolist(), ticks=ticks, fraction=0.04, aspect=30)
    colours.ax.set_yticklabels([f"{tick:.2g}" for tick in ticks], fontsize=8)
    colours.set_label("times the even share\n1: as much as by chance", fontsize=8)
    return figure
