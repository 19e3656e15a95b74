"""Where each token looks in an image: attention rollout beside it, against attention that is even."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.layout_engine import ConstrainedLayoutEngine
from numpy.typing import NDArray

from deitlt.figures.attention_distance import WORDS
from deitlt.figures.style import FAINT, house_style, save_figure, shorten

_PANEL, _HEAD, _CAPTION, _BAR = 1.7, 0.75, 1.5, 1.0  # inches
_COARSE = 96  # pixels; smaller images are shown pixel by pixel
_COLOURS = "RdBu_r"  # white where a patch gets the even share
_LEAST_TOP = 2.0  # times the even share; without it attention that is nearly even would look sharp


@dataclass(frozen=True)
class RolloutExample:
    """One image and what its tokens roll out to.

    image: [H, W, 3], floats in [0, 1] without normalisation, or uint8. rollouts: 'cls', 'dist' -> [h, w], a share for
    each patch. caption: the truth and what the tokens say.
    """

    image: NDArray[Any]
    rollouts: Mapping[str, NDArray[Any]]
    caption: str


def attention_rollouts(examples: Sequence[RolloutExample], path: Path, title: str) -> Path:
    """Draw a row for each image: itself, then each token's rollout, patch by patch, in multiples of the even share.

    The even share is 1 / patches, what each would get of attention that looks nowhere in particular. One scale is for
    the whole picture, so that colours compare places, tokens and images; the image itself is not mixed in, for its own
    light and dark would look like attention.

    Args:
        examples: the images, at least one.
        path: the picture's file.
        title: of the whole picture.

    Returns:
        The path.
    """
    assert examples, "a picture of rollouts needs an image"
    tokens = list(examples[0].rollouts)
    greatest = max(float(_over_even(shares).max()) for one in examples for shares in one.rollouts.values())
    top = max(_LEAST_TOP, greatest)
    scale = TwoSlopeNorm(1.0, 0.0, top)
    with house_style():
        size = ((1 + len(tokens)) * _PANEL + _CAPTION + _BAR, len(examples) * _PANEL + _HEAD)
        figure = Figure(figsize=size, layout=ConstrainedLayoutEngine(w_pad=0.08))
        grid = figure.subplots(len(examples), 1 + len(tokens), squeeze=False)
        maps = [_row(row, example, tokens, scale) for row, example in zip(grid, examples, strict=True)]
        for axes, head in zip(grid[0], ["image", *(WORDS.get(token, token) for token in tokens)], strict=True):
            axes.set_title(head, fontsize=9, color=FAINT, loc="center", pad=4)
        _bar(figure, maps[0], grid[:, 1:].ravel().tolist(), top)
        figure.suptitle(title, x=0.01, ha="left", weight="bold", fontsize=12)
        return save_figure(figure, path)


def _row(row: Sequence[Axes], example: RolloutExample, tokens: Sequence[str], scale: TwoSlopeNorm) -> AxesImage:
    """Draw one image and its maps; one of these, for the colour bar."""
    for axes in row:
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set(visible=True, linewidth=0.5)  # an even map is as white as the paper
    smooth = "nearest" if max(example.image.shape[:2]) < _COARSE else "antialiased"
    row[0].imshow(example.image, interpolation=smooth)
    row[0].set_ylabel(shorten(example.caption, 60), rotation=0, ha="right", va="center", fontsize=8, labelpad=8)
    shares = [_over_even(example.rollouts[token]) for token in tokens]
    maps = [axes.imshow(s, _COLOURS, scale, interpolation="nearest") for axes, s in zip(row[1:], shares, strict=True)]
    return maps[-1]


def _over_even(shares: NDArray[Any]) -> NDArray[Any]:
    """shares: [h, w], which sum to 1 -> [h, w] in multiples of 1 / (h w)."""
    return np.asarray(shares, dtype=np.float64) * shares.size


def _bar(figure: Figure, drawn: AxesImage, beside: list[Axes], top: float) -> None:
    """The colours' meaning, with the even share marked."""
    ticks = [0.0, 0.5, 1.0, (1 + top) / 2, top]
    bar = figure.colorbar(drawn, ax=beside, ticks=ticks, fraction=0.04, aspect=30)
    bar.ax.set_yticklabels([f"{tick:.2g}" for tick in ticks], fontsize=8)
    bar.set_label("times the even share\n1: as much as by chance", fontsize=8)
