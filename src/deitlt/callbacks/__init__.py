"""What happens around the steps of any module: SAM, deferred re-weighting, averaging, seeding, progress."""

from deitlt.callbacks.averaging import StudentAveraging
from deitlt.callbacks.finite import FiniteLoss
from deitlt.callbacks.fusing import TokenFusion
from deitlt.callbacks.progress import StageProgress
from deitlt.callbacks.reweighting import DeferredReweighting
from deitlt.callbacks.sam import SharpnessAwareMinimization
from deitlt.callbacks.seeding import SeededSteps

__all__ = [
    "DeferredReweighting",
    "FiniteLoss",
    "SeededSteps",
    "SharpnessAwareMinimization",
    "StageProgress",
    "StudentAveraging",
    "TokenFusion",
]
