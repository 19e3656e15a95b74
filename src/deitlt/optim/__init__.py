"""How weights move: SAM's ascent, schedules of learning rate and rho. Optimisers are timm's."""

from deitlt.optim.fused import fused
from deitlt.optim.rho import ConstantRho, LinearRho, RhoSchedule, StepRho
from deitlt.optim.sam import ascend, restore
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
    "fused",
    "restore",
    "schedule_time",
]
