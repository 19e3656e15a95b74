"""Losses for long-tailed classes and for distillation: pure functions and thin modules."""

from deitlt.losses.classification import (
    AnyLoss,
    BalancedSoftmaxLoss,
    BinaryCrossEntropyLoss,
    ClassificationLoss,
    CountedLoss,
    CrossEntropyLoss,
    LDAMLoss,
    LogitAdjustedLoss,
    Reweightable,
    VSLoss,
    effective_number_weights,
    weighted_cross_entropy,
)
from deitlt.losses.distillation import DistillationLoss, DistillationTerms
from deitlt.losses.paco import PaCoLoss

__all__ = [
    "AnyLoss",
    "BalancedSoftmaxLoss",
    "BinaryCrossEntropyLoss",
    "ClassificationLoss",
    "CountedLoss",
    "CrossEntropyLoss",
    "DistillationLoss",
    "DistillationTerms",
    "LDAMLoss",
    "LogitAdjustedLoss",
    "PaCoLoss",
    "Reweightable",
    "VSLoss",
    "effective_number_weights",
    "weighted_cross_entropy",
]
