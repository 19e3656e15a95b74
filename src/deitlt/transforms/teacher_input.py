"""The teacher's input: the student's own image, brought to the size that the teacher knows."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional as F

from deitlt.types import Normalisation


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
