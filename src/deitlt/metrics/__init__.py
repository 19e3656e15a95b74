"""Accuracy by token and by group of classes, and rules that fuse the tokens."""

from deitlt.metrics.fusion import Fusion, WeightedTokens, fit_fusions, fusions_for, mean_of_probabilities
from deitlt.metrics.grouped_accuracy import GroupedAccuracy
from deitlt.metrics.token_accuracy import TokenAccuracy, logits_by_token

__all__ = [
    "Fusion",
    "GroupedAccuracy",
    "TokenAccuracy",
    "WeightedTokens",
    "fit_fusions",
    "fusions_for",
    "logits_by_token",
    "mean_of_probabilities",
]
