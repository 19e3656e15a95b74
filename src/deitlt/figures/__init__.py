"""Pictures from arrays: nothing here knows a model, a data set or a run."""

from deitlt.figures.accuracy import per_class_accuracy
from deitlt.figures.classes import class_histogram
from deitlt.figures.costs import cost_bars
from deitlt.figures.operations import operation_examples
from deitlt.figures.style import GROUP_COLOURS, group_colour, save_figure, series_style
from deitlt.figures.views import ViewExample, view_grid

__all__ = [
    "GROUP_COLOURS",
    "ViewExample",
    "class_histogram",
    "cost_bars",
    "group_colour",
    "operation_examples",
    "per_class_accuracy",
    "save_figure",
    "series_style",
    "view_grid",
]
