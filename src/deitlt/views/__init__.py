"""What an image becomes on its way to the student, to the teacher, and to evaluation."""

from deitlt.views.auto_augment import auto_augment_view
from deitlt.views.cutout import Cutout
from deitlt.views.device import DeviceView, device_view
from deitlt.views.evaluation import evaluation_view
from deitlt.views.imagenet import imagenet_view
from deitlt.views.mixing import BatchMixing, Mixed
from deitlt.views.multi_crop import multi_crop_view
from deitlt.views.paired import paired_view
from deitlt.views.several import SeveralViews
from deitlt.views.simclr import simclr_view
from deitlt.views.statistics import IMAGENET, denormalise
from deitlt.views.student import student_view
from deitlt.views.teacher import TeacherView
from deitlt.views.three_augment import three_augment_view
from deitlt.views.transmix import attention_targets
from deitlt.views.weak import weak_view

__all__ = [
    "IMAGENET",
    "BatchMixing",
    "Cutout",
    "DeviceView",
    "Mixed",
    "SeveralViews",
    "TeacherView",
    "attention_targets",
    "auto_augment_view",
    "denormalise",
    "device_view",
    "evaluation_view",
    "imagenet_view",
    "multi_crop_view",
    "paired_view",
    "simclr_view",
    "student_view",
    "three_augment_view",
    "weak_view",
]
