"""Networks: CNN teachers and transformer students."""

from deitlt.models.attention import attention_weights, queries_and_keys
from deitlt.models.cifar_resnet import CifarResNet
from deitlt.models.cosine import CosineLinear
from deitlt.models.execution import attend_by_products, compile_network, keep_channels_last, uncompiled
from deitlt.models.labeller import LiveTeacher, in_class_order
from deitlt.models.paco import PaCoNetwork, check_queue_size, create_paco_teacher
from deitlt.models.students import StudentNetwork, check_local_size, create_student
from deitlt.models.teachers import create_teacher, list_teachers

__all__ = [
    "CifarResNet",
    "CosineLinear",
    "LiveTeacher",
    "PaCoNetwork",
    "StudentNetwork",
    "attend_by_products",
    "attention_weights",
    "check_local_size",
    "check_queue_size",
    "compile_network",
    "create_paco_teacher",
    "create_student",
    "create_teacher",
    "in_class_order",
    "keep_channels_last",
    "list_teachers",
    "queries_and_keys",
    "uncompiled",
]
