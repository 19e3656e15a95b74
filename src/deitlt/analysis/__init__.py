"""What a trained network does inside, measured: attention, rank, diversity, sharpness, agreement."""

from deitlt.analysis.attention import AttentionDistance, attention_rollout, evaluating, patch_distances
from deitlt.analysis.experts import (
    ClassSums,
    Decisions,
    ExpertDiversity,
    Labeller,
    TokenWinners,
    agreement,
    decide,
)
from deitlt.analysis.features import FeatureCovariance, Rank
from deitlt.analysis.results import Number, as_csv, finite, numbers, scalars
from deitlt.analysis.runner import (
    PARTS,
    PASS_PARTS,
    STUDENT_PARTS,
    TEACHER_PARTS,
    Rollout,
    analyse,
    epochs_trained,
    rollouts_of,
    split_of,
    training_sharpness,
)
from deitlt.analysis.sharpness import Sharpness, sharpness, truth_losses

__all__ = [
    "PARTS",
    "PASS_PARTS",
    "STUDENT_PARTS",
    "TEACHER_PARTS",
    "AttentionDistance",
    "ClassSums",
    "Decisions",
    "ExpertDiversity",
    "FeatureCovariance",
    "Labeller",
    "Number",
    "Rank",
    "Rollout",
    "Sharpness",
    "TokenWinners",
    "agreement",
    "analyse",
    "as_csv",
    "attention_rollout",
    "decide",
    "epochs_trained",
    "evaluating",
    "finite",
    "numbers",
    "patch_distances",
    "rollouts_of",
    "scalars",
    "sharpness",
    "split_of",
    "training_sharpness",
    "truth_losses",
]
