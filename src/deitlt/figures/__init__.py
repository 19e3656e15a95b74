"""Pictures from arrays: nothing here knows a model, a data set or a run."""

from deitlt.figures.accuracy import per_class_accuracy
from deitlt.figures.agreement import teacher_agreement
from deitlt.figures.attention_distance import attention_distances
from deitlt.figures.calibration import calibration_errors
from deitlt.figures.classes import class_histogram
from deitlt.figures.confusion import confusion_picture
from deitlt.figures.costs import cost_bars
from deitlt.figures.diversity import diversity_over_epochs, expert_diversity
from deitlt.figures.feature_rank import feature_rank, feature_ranks
from deitlt.figures.operations import operation_examples
from deitlt.figures.parallel import parallel_coordinates
from deitlt.figures.rollout import RolloutExample, attention_rollouts
from deitlt.figures.sharpness import hessian_sharpness
from deitlt.figures.style import GROUP_COLOURS, group_colour, save_figure, series_style
from deitlt.figures.views import ViewExample, view_grid
from deitlt.figures.winners import token_winners

__all__ = [
    "GROUP_COLOURS",
    "RolloutExample",
    "ViewExample",
    "attention_distances",
    "attention_rollouts",
    "calibration_errors",
    "class_histogram",
    "confusion_picture",
    "cost_bars",
    "diversity_over_epochs",
    "expert_diversity",
    "feature_rank",
    "feature_ranks",
    "group_colour",
    "hessian_sharpness",
    "operation_examples",
    "parallel_coordinates",
    "per_class_accuracy",
    "save_figure",
    "series_style",
    "teacher_agreement",
    "token_winners",
    "view_grid",
]
