"""Accuracy by token and by group of classes."""

from deitlt.metrics.grouped_accuracy import GroupedAccuracy
from deitlt.metrics.token_accuracy import TokenAccuracy, logits_by_token

__all__ = ["GroupedAccuracy", "TokenAccuracy", "logits_by_token"]
