"""The training batch with the teacher's input: the student's own images, brought to the size that the teacher knows."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from deitlt.transforms.mixup import Mixup
from deitlt.types import Batch, Normalisation

TeacherInputs = Callable[[Tensor], Tensor]
TeacherSees = Literal["both", "global"]


@dataclass(frozen=True)
class TeacherInput:
    """resize(x) of L_dist = CE(f_dist(x), argmax g(resize(x))), for a batch on its device.

    Args:
        image_size: pixels a side that the teacher was trained on.
        antialias: smooth before making an image smaller. The authors' environment did not, which
            changes the teacher's decisions; so False reproduces them.
        student: statistics that the student's image is normalised with.
        teacher: statistics to normalise it with instead, or None to leave it as it is, as the authors do.
    """

    image_size: int
    antialias: bool = False
    student: Normalisation | None = None
    teacher: Normalisation | None = None

    def __call__(self, images: Tensor) -> Tensor:
        """images: [B, 3, H, W] -> [B, 3, image_size, image_size]."""
        size = (self.image_size, self.image_size)
        if images.shape[-2:] != size:
            images = F.interpolate(
                images.float(),
                size=size,
                mode="bicubic",
                antialias=self.antialias,
                align_corners=False,
            )
        return images if self._renormalise is None else self._renormalise(images)

    @cached_property
    def _renormalise(self) -> Callable[[Tensor], Tensor] | None:
        if self.student is None or self.teacher is None:
            return None
        return renormaliser(self.student, self.teacher)


def renormaliser(old: Normalisation, new: Normalisation) -> Callable[[Tensor], Tensor]:
    """A function that undoes one normalisation of [B, 3, H, W] and applies another, in one step."""
    kept: dict[tuple[torch.device, torch.dtype], tuple[Tensor, Tensor]] = {}

    def renormalise(images: Tensor) -> Tensor:
        place = (images.device, images.dtype)
        if place not in kept:  # a copy to the device, which would wait for it at every batch
            kept[place] = _factors(old, new, *place)
        scale, shift = kept[place]
        return images * scale + shift

    return renormalise


def _factors(old: Normalisation, new: Normalisation, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """What to multiply with and what to add, [3, 1, 1] each."""
    old_mean, old_std, new_mean, new_std = (
        torch.tensor(values, device=device, dtype=dtype).view(3, 1, 1)
        for values in (old.mean, old.std, new.mean, new.std)
    )
    return old_std / new_std, (old_mean - new_mean) / new_std


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


def _mixed(crops: Sequence[Tensor], targets: Tensor, mixing: Mixup | None, rng: np.random.Generator) -> Batch:
    """Crops of one size, one after the other, mixed: V crops of B images -> V * B rows."""
    images, labels = torch.cat(list(crops)), targets.repeat(len(crops))
    if mixing is None:
        return Batch(images, labels, crops=len(crops))
    mixed = mixing(images, labels, rng)
    return Batch(mixed.images, mixed.targets, pasted=mixed.pasted, crops=len(crops))
