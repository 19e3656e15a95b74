"""What an image becomes on its way to the student, to the teacher, and to evaluation."""

from deitlt.transforms.auto_augment import auto_augment_view
from deitlt.transforms.cutout import Cutout
from deitlt.transforms.device import DeviceView, device_view
from deitlt.transforms.evaluation import evaluation_view
from deitlt.transforms.imagenet import imagenet_view
from deitlt.transforms.mixing import BatchMixing, Mixed
from deitlt.transforms.multi_crop import multi_crop_view
from deitlt.transforms.paired import paired_view
from deitlt.transforms.several import SeveralViews
from deitlt.transforms.simclr import simclr_view
from deitlt.transforms.statistics import IMAGENET, denormalise
from deitlt.transforms.student import student_view
from deitlt.transforms.teacher import TeacherView
from deitlt.transforms.three_augment import three_augment_view
from deitlt.transforms.transmix import attention_targets
from deitlt.transforms.weak import weak_view

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
