"""Networks: CNN teachers and transformer students."""

from deitlt.models.cifar_resnet import CifarResNet
from deitlt.models.cosine import CosineLinear
from deitlt.models.labeller import LiveTeacher
from deitlt.models.students import StudentNetwork, create_student
from deitlt.models.teachers import create_teacher, list_teachers

__all__ = [
    "CifarResNet",
    "CosineLinear",
    "LiveTeacher",
    "StudentNetwork",
    "create_student",
    "create_teacher",
    "list_teachers",
]
