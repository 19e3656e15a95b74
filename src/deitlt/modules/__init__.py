"""LightningModules: one shared base, the teachers, the student."""

from deitlt.modules.base import RAW, ClassifierModule, OptimizerFactory, Results
from deitlt.modules.paco_teacher import PaCoTeacherModule
from deitlt.modules.student import FrozenTeacher, StudentModule
from deitlt.modules.teacher import TeacherModule

__all__ = [
    "RAW",
    "ClassifierModule",
    "FrozenTeacher",
    "OptimizerFactory",
    "PaCoTeacherModule",
    "Results",
    "StudentModule",
    "TeacherModule",
]
