"""What happens around the steps of any module: SAM, re-weighting, averaging, seeding, progress, analysis."""

from deitlt.callbacks.analysis import AnalysisWhileTraining
from deitlt.callbacks.checkpoints import BestCheckpoint, LastCheckpoint
from deitlt.callbacks.ema import StudentAveraging, TokenFusion
from deitlt.callbacks.monitoring import FiniteLoss, MedianPruning, StageProgress, Throughput
from deitlt.callbacks.reweighting import DeferredReweighting
from deitlt.callbacks.sam import SharpnessAwareMinimization
from deitlt.callbacks.stop_and_resume import Preemption, SeededSteps, taken_signals

__all__ = [
    "AnalysisWhileTraining",
    "BestCheckpoint",
    "DeferredReweighting",
    "FiniteLoss",
    "LastCheckpoint",
    "MedianPruning",
    "Preemption",
    "SeededSteps",
    "SharpnessAwareMinimization",
    "StageProgress",
    "StudentAveraging",
    "Throughput",
    "TokenFusion",
    "taken_signals",
]
