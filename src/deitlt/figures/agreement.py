"""How far out of distribution the teacher is: how often it names the true class of what the student is shown."""

from collections.abc import Mapping
from pathlib import Path

from matplotlib.figure import Figure

from deitlt.figures.bars import cluster_bars, group_or_all_colour, in_group_order, percent_axis
from deitlt.figures.style import house_style, save_figure


def teacher_agreement(agreement: Mapping[str, Mapping[str, float]], path: Path, title: str) -> Path:
    """Draw the teacher's agreement with the truth on each kind of image, by group.

    Args:
        agreement: 'clean', 'cropped', 'augmented', 'mixed' -> group -> percent of its images.
        path: the picture's file.
        title: of the whole picture.

    Returns:
        The path.
    """
    ordered = {
        kind: {name: groups[name] for name in in_group_order(groups)} for kind, groups in agreement.items() if groups
    }
    with house_style():
        figure = Figure(figsize=(8, 4.4), layout="constrained")
        axes = figure.add_subplot()
        names = {name: name for groups in ordered.values() for name in groups}
        cluster_bars(axes, ordered, group_or_all_colour, names, "{:.0f}")
        percent_axis(axes, "images whose class the teacher names, %")
        axes.set_xlabel("what the student is shown of its training images")
        axes.set_title(title, pad=32)  # the legend stands between it and the axes
        axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=len(names))
        return save_figure(figure, path)
