"""What an image becomes on its way to the student, to the teacher, and to evaluation."""

from deitlt.views.evaluation import evaluation_view
from deitlt.views.mixing import BatchMixing
from deitlt.views.statistics import IMAGENET, denormalise
from deitlt.views.student import student_view
from deitlt.views.teacher import TeacherView
from deitlt.views.weak import weak_view

__all__ = [
    "IMAGENET",
    "BatchMixing",
    "TeacherView",
    "denormalise",
    "evaluation_view",
    "student_view",
    "weak_view",
]
