"""LightningModules: one shared base, the teacher, the student."""

from deitlt.modules.base import RAW, ClassifierModule, OptimizerFactory, Results
from deitlt.modules.student import StudentModule
from deitlt.modules.teacher import TeacherModule

__all__ = ["RAW", "ClassifierModule", "OptimizerFactory", "Results", "StudentModule", "TeacherModule"]
