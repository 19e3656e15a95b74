"""How far each token's confidence is from its accuracy, by group."""

from collections.abc import Mapping
from pathlib import Path

from matplotlib.figure import Figure

from deitlt.figures.bars import cluster_bars, in_group_order
from deitlt.figures.style import house_style, save_figure, series_style


def calibration_errors(errors: Mapping[str, Mapping[str, float]], path: Path, title: str) -> Path:
    """Draw the expected calibration error of each answer, by group.

    Args:
        errors: answer, such as 'CLS', 'DIST', 'AVG' or 'teacher' -> group -> ECE in percent.
        path: the picture's file.
        title: of the whole picture.

    Returns:
        The path.
    """
    groups = in_group_order(group for found in errors.values() for group in found)
    by_group = {group: {answer: found[group] for answer, found in errors.items() if group in found} for group in groups}
    with house_style():
        figure = Figure(figsize=(8, 4.4), layout="constrained")
        axes = figure.add_subplot()
        cluster_bars(axes, by_group, lambda name: series_style(name).colour, {name: name for name in errors})
        axes.margins(y=0.1)
        axes.set_ylim(bottom=0)
        axes.set_ylabel("expected calibration error, %")
        axes.set_title(title, pad=26)
        axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.02), ncols=len(errors))
        return save_figure(figure, path)
