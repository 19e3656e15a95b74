"""What a trained network does inside, measured: attention, rank, diversity, sharpness, agreement."""

from deitlt.analysis.agreement import Decisions, Labeller, agreement, decide
from deitlt.analysis.answers import FiniteAnswers, without_decisions
from deitlt.analysis.attention_distance import AttentionDistance, patch_distances
from deitlt.analysis.class_sums import ClassSums
from deitlt.analysis.diversity import ExpertDiversity
from deitlt.analysis.feature_rank import FeatureCovariance, Rank
from deitlt.analysis.finite import finite
from deitlt.analysis.naming import Number, numbers, scalars
from deitlt.analysis.rollout import attention_rollout
from deitlt.analysis.sharpness import Sharpness, sharpness, truth_losses
from deitlt.analysis.student import STUDENT_PARTS, StudentFindings, analyse_student
from deitlt.analysis.teacher import TeacherFindings, analyse_teacher, teacher_features
from deitlt.analysis.winners import TokenWinners

__all__ = [
    "STUDENT_PARTS",
    "AttentionDistance",
    "ClassSums",
    "Decisions",
    "ExpertDiversity",
    "FeatureCovariance",
    "FiniteAnswers",
    "Labeller",
    "Number",
    "Rank",
    "Sharpness",
    "StudentFindings",
    "TeacherFindings",
    "TokenWinners",
    "agreement",
    "analyse_student",
    "analyse_teacher",
    "attention_rollout",
    "decide",
    "finite",
    "numbers",
    "patch_distances",
    "scalars",
    "sharpness",
    "teacher_features",
    "truth_losses",
    "without_decisions",
]
