"""Accuracy and calibration by token and by group of classes, and rules that fuse the tokens."""

from deitlt.metrics.accuracy import ClassPairs, Confusions, GroupedAccuracy, TokenAccuracy, logits_by_token
from deitlt.metrics.calibration import GroupedCalibration, TokenCalibration
from deitlt.metrics.fusion import Fusion, WeightedTokens, fit_fusions, fusions_for, mean_of_probabilities

__all__ = [
    "ClassPairs",
    "Confusions",
    "Fusion",
    "GroupedAccuracy",
    "GroupedCalibration",
    "TokenAccuracy",
    "TokenCalibration",
    "WeightedTokens",
    "fit_fusions",
    "fusions_for",
    "logits_by_token",
    "mean_of_probabilities",
]
