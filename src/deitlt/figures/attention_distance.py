"""How far each token looks, block by block: mean attention distances in pixels."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from deitlt.figures.style import house_style, save_figure, series_style

Distances = Mapping[str, Sequence[Sequence[float]]]  # token -> [blocks][heads], pixels
WORDS = {"cls": "CLS", "dist": "DIST", "patches": "patches"}


def attention_distances(distances: Distances, path: Path, title: str) -> Path:
    """Draw a line through each token's mean over the heads, and each head as a dot.

    Args:
        distances: 'cls', 'dist', 'patches' -> a row of heads for each block, in pixels.
        path: the picture's file.
        title: of the whole picture.

    Returns:
        The path.
    """
    with house_style():
        figure = Figure(figsize=(8, 4.6), layout="constrained")
        axes = figure.add_subplot()
        for position, (token, blocks) in enumerate(distances.items()):
            _token(axes, token, [np.asarray(heads, dtype=float) for heads in blocks], position, len(distances))
        block_axis(axes, max(map(len, distances.values())))
        axes.set_ylim(0, 1.06 * max(max(heads) for blocks in distances.values() for heads in blocks) or 1.0)
        axes.set_ylabel("mean attention distance, pixels")
        axes.grid(axis="y")
        axes.set_title(title, pad=30)
        axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=len(distances))
        return save_figure(figure, path)


def block_axis(axes: Axes, blocks: int) -> None:
    """A horizontal axis of a transformer's blocks, counted from 1."""
    axes.set_xlim(-0.4, blocks - 0.6)
    step = -(-blocks // 16)
    axes.set_xticks(range(0, blocks, step), [str(i + 1) for i in range(0, blocks, step)])
    axes.set_xlabel("block")


def _token(axes: Axes, token: str, blocks: Sequence[np.ndarray], position: int, tokens: int) -> None:
    """One token's line and dots; the dots of tokens stand beside each other."""
    word = WORDS.get(token, token)
    style = series_style(word)
    places = np.arange(len(blocks))
    shift = (position - (tokens - 1) / 2) * 0.12
    across = np.concatenate([np.full(len(heads), place + shift) for place, heads in zip(places, blocks, strict=True)])
    axes.plot(across, np.concatenate(blocks), ".", color=style.colour, alpha=0.45, markersize=6, linestyle="none")
    means = [heads.mean() for heads in blocks]
    look: dict[str, Any] = {"markersize": 7, "markeredgecolor": "white", "linewidth": 2.0}
    axes.plot(places, means, style.marker, linestyle="-", color=style.colour, label=f"{word}, mean of heads", **look)
