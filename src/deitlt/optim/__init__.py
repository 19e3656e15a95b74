"""SAM's ascent, and schedules of learning rate and rho. Optimisers are timm's and torch's."""

from deitlt.optim.sam import ConstantRho, LinearRho, RhoSchedule, StepRho, ascend, restore
from deitlt.optim.schedules import EpochCosine, WarmupCosine, WarmupSteps, schedule_time

__all__ = [
    "ConstantRho",
    "EpochCosine",
    "LinearRho",
    "RhoSchedule",
    "StepRho",
    "WarmupCosine",
    "WarmupSteps",
    "ascend",
    "restore",
    "schedule_time",
]
