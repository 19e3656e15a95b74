"""From the views that the workers made to a complete batch: stacked, mixed, and labelled by the teacher."""

import copy
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from deitlt.errors import ConfigError
from deitlt.transforms import BatchMixing
from deitlt.types import StudentBatch

Labeller = Callable[[Tensor], Tensor]
TeacherSees = Literal["both", "global"]


def complete_batch(
    views: Tensor | Sequence[Tensor],
    targets: Tensor,
    mixing: BatchMixing | None,
    labeller: Labeller | None,
    teacher_sees: TeacherSees,
    rng: np.random.Generator,
) -> StudentBatch:
    """Stack views of one size, mix them, and ask the teacher about what came out.

    The views that are as large as the first are the batch, the smaller ones its local crops. Both parts are
    mixed by the same draws, each image with the same partner, so that the teacher's answer to a global
    crop fits the local crops of the same mixture.

    Args:
        views: [B, 3, H, W], or one such tensor a view.
        targets: [B] class ids.
        mixing: or None for hard labels.
        labeller: images [N, 3, H, W] -> decisions [N] or logits [N, C]; None where nobody teaches.
        teacher_sees: 'both' has the teacher label each crop; with 'global' local crops take its answer to
            the first global crop.
        rng: where this batch's draws come from.
    """
    tensors = [views] if isinstance(views, Tensor) else list(views)
    whole = [view for view in tensors if view.shape == tensors[0].shape]
    smaller = [view for view in tensors if view.shape != tensors[0].shape]
    batch = _part(whole, targets, mixing, copy.deepcopy(rng))
    batch = batch._replace(teacher=None if labeller is None else labeller(batch.images))
    if not smaller:
        return batch
    local = _part(smaller, targets, mixing, rng)
    if labeller is not None and teacher_sees == "both":
        local = local._replace(teacher=labeller(local.images))
    elif batch.teacher is not None:
        answers = batch.teacher[: len(targets)]
        local = local._replace(teacher=answers.repeat(len(smaller), *[1] * (answers.ndim - 1)))
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
    raise ConfigError(f"student.views.teacher_sees={teacher_sees} is no choice; type =global or =both.")


def _part(
    views: Sequence[Tensor], targets: Tensor, mixing: BatchMixing | None, rng: np.random.Generator
) -> StudentBatch:
    """Views of one size, one after the other, mixed: V views of B images -> V * B rows."""
    images, labels = torch.cat(list(views)), targets.repeat(len(views))
    if mixing is None:
        return StudentBatch(images, labels, None)
    mixed = mixing(images, labels, rng)
    return StudentBatch(mixed.images, mixed.targets, None, mixed.pasted)
