"""Where each token looks in an image: attention rollout laid over it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from deitlt.figures.attention_distance import WORDS
from deitlt.figures.style import FAINT, house_style, save_figure, shorten

_PANEL, _HEAD, _CAPTION = 1.7, 0.75, 1.3  # inches
_COARSE = 96  # pixels; smaller images are shown pixel by pixel
_STRENGTH = 0.62  # of the overlay where a token looks most


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
    """Draw a row for each image: itself, then each token's rollout over it, bright where it looks most.

    Each overlay is scaled to its own largest share, so colours compare places of one picture.

    Args:
        examples: the images, at least one.
        path: the picture's file.
        title: of the whole picture.

    Returns:
        The path.
    """
    assert examples, "a picture of rollouts needs an image"
    tokens = list(examples[0].rollouts)
    with house_style():
        size = ((1 + len(tokens)) * _PANEL + _CAPTION, len(examples) * _PANEL + _HEAD)
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.subplots(len(examples), 1 + len(tokens), squeeze=False)
        for row, example in zip(grid, examples, strict=True):
            _row(row, example, tokens)
        for axes, head in zip(grid[0], ["image", *(WORDS.get(token, token) for token in tokens)], strict=True):
            axes.set_title(head, fontsize=9, color=FAINT, loc="center", pad=4)
        figure.suptitle(title, x=0.01, ha="left", weight="bold", fontsize=12)
        return save_figure(figure, path)


def _row(row: Sequence[Axes], example: RolloutExample, tokens: Sequence[str]) -> None:
    for axes in row:
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_visible(False)
    smooth = "nearest" if max(example.image.shape[:2]) < _COARSE else "antialiased"
    row[0].imshow(example.image, interpolation=smooth)
    row[0].set_ylabel(shorten(example.caption, 60), rotation=0, ha="right", va="center", fontsize=8, labelpad=8)
    for axes, token in zip(row[1:], tokens, strict=True):
        axes.imshow(overlay(example.image, example.rollouts[token]), interpolation=smooth)


def overlay(image: NDArray[Any], shares: NDArray[Any]) -> NDArray[Any]:
    """The image in grey under its rollout's colours.

    Args:
        image: [H, W, 3] in [0, 1], or uint8.
        shares: [h, w], not negative.

    Returns:
        [H, W, 3] in [0, 1].
    """
    pixels = image / 255.0 if image.dtype == np.uint8 else np.clip(image.astype(np.float64), 0.0, 1.0)
    height, width = pixels.shape[:2]
    rows = np.arange(height) * shares.shape[0] // height
    columns = np.arange(width) * shares.shape[1] // width
    scaled = (shares / max(float(shares.max()), 1e-12))[rows][:, columns, None]
    grey = np.repeat(pixels.mean(axis=2, keepdims=True), 3, axis=2)
    colours = matplotlib.colormaps["inferno"](scaled[..., 0])[..., :3]
    mixed: NDArray[Any] = grey * (1 - _STRENGTH) + colours * _STRENGTH
    return mixed
