"""One of each part that a user of deitlt may bring; the files in conf/ choose them."""

from deitlt_outside.networks import Teacher, TwoHeads
from deitlt_outside.parts import Focal, HalvedStudent, Note, ReversedSampler, mirrored, sgd

__all__ = ["Focal", "HalvedStudent", "Note", "ReversedSampler", "Teacher", "TwoHeads", "mirrored", "sgd"]
