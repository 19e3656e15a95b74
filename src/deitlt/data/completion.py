"""From the crops that the transforms made to a training batch: stacked, mixed, and with the teacher's input."""

import copy
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from deitlt.errors import ConfigError
from deitlt.transforms import Mixup
from deitlt.types import Batch

TeacherInputs = Callable[[Tensor], Tensor]
TeacherSees = Literal["both", "global"]


def training_batch(
    crops: Tensor | Sequence[Tensor],
    targets: Tensor,
    mixing: Mixup | None,
    teacher_input: TeacherInputs | None,
    teacher_sees: TeacherSees,
    rng: np.random.Generator,
) -> Batch:
    """Stack crops of one size, mix them, and make the teacher's input of the result.

    Crops as large as the first are the batch, smaller ones its local crops. Both are mixed by the same draws, each
    image with the same partner, so the teacher's label of a global crop fits the local crops of the same mixture.

    Args:
        crops: [B, 3, H, W], or one such tensor a crop.
        targets: [B] class ids.
        mixing: None for hard labels.
        teacher_input: images [N, 3, H, W] -> the teacher's images [N, 3, h, w]; None without a teacher.
        teacher_sees: 'both' makes the teacher's input of each crop; 'global' of the global ones alone.
        rng: this batch's generator.
    """
    tensors = [crops] if isinstance(crops, Tensor) else list(crops)
    whole = [crop for crop in tensors if crop.shape == tensors[0].shape]
    smaller = [crop for crop in tensors if crop.shape != tensors[0].shape]
    batch = _mixed(whole, targets, mixing, copy.deepcopy(rng))
    local = _mixed(smaller, targets, mixing, rng) if smaller else None
    if teacher_input is not None:
        batch = batch._replace(teacher_images=teacher_input(batch.images))
        if local is not None and teacher_sees == "both":
            local = local._replace(teacher_images=teacher_input(local.images))
    return batch._replace(local=local)


def check_teacher_sees(teacher_sees: str) -> TeacherSees:
    """The value, if it is one.

    Raises:
        ConfigError: if it is none.
    """
    if teacher_sees == "both":
        return "both"
    if teacher_sees == "global":
        return "global"
    raise ConfigError(f"student.transforms.teacher_sees={teacher_sees} is no choice; type =global or =both.")


def _mixed(crops: Sequence[Tensor], targets: Tensor, mixing: Mixup | None, rng: np.random.Generator) -> Batch:
    """Crops of one size, one after the other, mixed: V crops of B images -> V * B rows."""
    images, labels = torch.cat(list(crops)), targets.repeat(len(crops))
    if mixing is None:
        return Batch(images, labels, crops=len(crops))
    mixed = mixing(images, labels, rng)
    return Batch(mixed.images, mixed.targets, pasted=mixed.pasted, crops=len(crops))
