"""What happens around the steps of any module: SAM, re-weighting, averaging, seeding, progress, stored answers."""

from deitlt.callbacks.analysis import AnalysisWhileTraining
from deitlt.callbacks.ema import StudentAveraging, TokenFusion
from deitlt.callbacks.finite import FiniteLoss
from deitlt.callbacks.first_step import FirstStep
from deitlt.callbacks.preemption import Preemption, taken_signals
from deitlt.callbacks.progress import StageProgress
from deitlt.callbacks.pruning import Pruning
from deitlt.callbacks.reweighting import DeferredReweighting
from deitlt.callbacks.sam import SharpnessAwareMinimization
from deitlt.callbacks.seeding import SeededSteps
from deitlt.callbacks.throughput import Throughput

__all__ = [
    "AnalysisWhileTraining",
    "DeferredReweighting",
    "FiniteLoss",
    "FirstStep",
    "Preemption",
    "Pruning",
    "SeededSteps",
    "SharpnessAwareMinimization",
    "StageProgress",
    "StudentAveraging",
    "Throughput",
    "TokenFusion",
    "taken_signals",
]
