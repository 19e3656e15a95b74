"""How sharp the minimum is, over all images and for each group's: two numbers of the loss's Hessian."""

from collections.abc import Mapping
from pathlib import Path

from matplotlib.figure import Figure

from deitlt.figures.bars import group_bars
from deitlt.figures.style import house_style, save_figure

_PANELS = {"eigenvalue": "largest eigenvalue of the Hessian", "trace": "trace of the Hessian"}


def hessian_sharpness(sharpness: Mapping[str, Mapping[str, float]], path: Path, title: str) -> Path:
    """Draw the Hessian's largest eigenvalue and trace for each group's images.

    Args:
        sharpness: group -> 'eigenvalue' and 'trace', as far as they are known.
        path: the picture's file.
        title: of the whole picture.

    Returns:
        The path.
    """
    with house_style():
        figure = Figure(figsize=(9, 4), layout="constrained")
        for axes, (number, words) in zip(figure.subplots(1, 2), _PANELS.items(), strict=True):
            group_bars(axes, {name: found[number] for name, found in sharpness.items() if number in found}, "{:.3g}")
            axes.axhline(0, color="#8a8a8a", linewidth=0.8)  # a trace may be negative
            axes.set_ylabel(words)
        figure.suptitle(title, x=0.01, ha="left", weight="bold", fontsize=12)
        return save_figure(figure, path)
