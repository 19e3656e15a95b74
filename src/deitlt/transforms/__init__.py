"""What an image becomes on its way to the student, to the teacher, and to evaluation."""

from deitlt.transforms.batch import BatchTransform, batch_transform
from deitlt.transforms.image import (
    IMAGENET,
    CropFlip,
    ImageTransform,
    auto_augment_transform,
    denormalise,
    evaluation_transform,
    image_transform,
    imagenet_transform,
    simclr_transform,
    student_transform,
    three_augment_transform,
    weak_transform,
)
from deitlt.transforms.mixup import Mixed, Mixup, attention_targets
from deitlt.transforms.multi_view import MultiView, multi_crop_transform, paired_transform
from deitlt.transforms.teacher_input import TeacherInput

__all__ = [
    "IMAGENET",
    "BatchTransform",
    "CropFlip",
    "ImageTransform",
    "Mixed",
    "Mixup",
    "MultiView",
    "TeacherInput",
    "attention_targets",
    "auto_augment_transform",
    "batch_transform",
    "denormalise",
    "evaluation_transform",
    "image_transform",
    "imagenet_transform",
    "multi_crop_transform",
    "paired_transform",
    "simclr_transform",
    "student_transform",
    "three_augment_transform",
    "weak_transform",
]
