"""Losses for long-tailed classes and for distillation: pure functions and thin modules."""

from deitlt.losses.balanced_softmax import BalancedSoftmaxLoss
from deitlt.losses.binary_cross_entropy import BinaryCrossEntropyLoss
from deitlt.losses.classification import ClassificationLoss, Reweightable, weighted_cross_entropy
from deitlt.losses.cross_entropy import CrossEntropyLoss
from deitlt.losses.distillation import DistillationLoss, DistillationTerms
from deitlt.losses.ldam import LDAMLoss
from deitlt.losses.logit_adjustment import LogitAdjustedLoss
from deitlt.losses.paco import PaCoLoss
from deitlt.losses.reweighting import effective_number_weights
from deitlt.losses.vs import VSLoss

__all__ = [
    "BalancedSoftmaxLoss",
    "BinaryCrossEntropyLoss",
    "ClassificationLoss",
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
