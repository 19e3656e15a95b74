"""One of each part that a user of deitlt may bring; the files in conf/ choose them."""

from deitlt_outside.networks import Teacher, TwoHeads
from deitlt_outside.parts import Focal, HalvedStudent, Lines, Note, ReversedSampler, mirrored, sgd

__all__ = ["Focal", "HalvedStudent", "Lines", "Note", "ReversedSampler", "Teacher", "TwoHeads", "mirrored", "sgd"]
