"""Networks: CNN teachers and transformer students."""

from deitlt.models.cost import count_macs, count_operations, count_parameters
from deitlt.models.factory import (
    answer_in_float32,
    as_logits,
    check_local_size,
    compile_network,
    create_student,
    create_teacher,
    entrances,
    in_class_order,
    keep_channels_last,
    list_teachers,
    uncompiled,
    words_for,
)
from deitlt.models.paco import PaCoNetwork, check_queue_size, create_paco_teacher
from deitlt.models.resnet_cifar import CifarResNet, CosineLinear
from deitlt.models.vit import StudentNetwork, attend_by_products, attention_weights, queries_and_keys

__all__ = [
    "CifarResNet",
    "CosineLinear",
    "PaCoNetwork",
    "StudentNetwork",
    "answer_in_float32",
    "as_logits",
    "attend_by_products",
    "attention_weights",
    "check_local_size",
    "check_queue_size",
    "compile_network",
    "count_macs",
    "count_operations",
    "count_parameters",
    "create_paco_teacher",
    "create_student",
    "create_teacher",
    "entrances",
    "in_class_order",
    "keep_channels_last",
    "list_teachers",
    "queries_and_keys",
    "uncompiled",
    "words_for",
]
