"""What a trained network does inside, measured: attention, rank, diversity, sharpness, agreement."""

from deitlt.analysis.attention import AttentionDistance, attention_rollout, patch_distances
from deitlt.analysis.experts import ExpertDiversity, Teacher, TokenWinners, agreement, decide
from deitlt.analysis.features import FeatureCovariance
from deitlt.analysis.results import as_csv, finite, numbers, scalars
from deitlt.analysis.runner import (
    PARTS,
    PASS_PARTS,
    STUDENT_PARTS,
    TEACHER_PARTS,
    analyse,
    epochs_trained,
    rollouts_of,
    split_of,
    training_sharpness,
)
from deitlt.analysis.sharpness import sharpness

__all__ = [
    "PARTS",
    "PASS_PARTS",
    "STUDENT_PARTS",
    "TEACHER_PARTS",
    "AttentionDistance",
    "ExpertDiversity",
    "FeatureCovariance",
    "Teacher",
    "TokenWinners",
    "agreement",
    "analyse",
    "as_csv",
    "attention_rollout",
    "decide",
    "epochs_trained",
    "finite",
    "numbers",
    "patch_distances",
    "rollouts_of",
    "scalars",
    "sharpness",
    "split_of",
    "training_sharpness",
]
