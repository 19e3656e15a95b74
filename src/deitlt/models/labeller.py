"""Who tells the student what the teacher says: a live network behind one call."""

from collections.abc import Callable

import torch
from torch import Tensor, nn


def in_class_order(logits: Tensor, class_order: Tensor | None) -> Tensor:
    """logits: [B, C] as a network answers -> in the order of the data's classes, where that is another."""
    return logits if class_order is None else logits.index_select(1, class_order.to(logits.device))


class LiveTeacher:
    """Answers a batch of the student's images, in its own precision and without a gradient.

    The student's module never holds the teacher: no average copies it, no checkpoint stores it, SAM's
    second pass does not run it again.

    Args:
        network: images at the teacher's size -> logits [B, C].
        view: the student's image -> the teacher's (size, normalisation).
        decisions: return the chosen class [B] (hard distillation) or the logits [B, C] (soft).
        scale: what makes logits of the network's answers, where they are cosines.
        dtype: the precision that the teacher answers in, whatever the student trains in. Below float32 it is
            that of convolutions and products (autocast); weights, BatchNorm and logits stay in float32.
        class_order: [C], where each class of the data stands among the network's answers; None where both
            have the same order.
    """

    def __init__(
        self,
        network: nn.Module,
        view: Callable[[Tensor], Tensor],
        decisions: bool = True,
        scale: float = 1.0,
        dtype: torch.dtype = torch.float32,
        class_order: Tensor | None = None,
    ) -> None:
        self.network = network.eval().requires_grad_(False)
        self.view = view
        self.decisions = decisions
        self.scale = scale
        self.dtype = dtype
        self.class_order = class_order
        self._device: torch.device | None = None

    def __call__(self, images: Tensor) -> Tensor:
        """images: [B, 3, H, W], the student's -> decisions [B] or logits [B, C]."""
        answers = self.answers(images)
        return answers.argmax(dim=1) if self.decisions else self.scale * answers.float()

    @torch.no_grad()
    def answers(self, images: Tensor) -> Tensor:
        """images: [B, 3, H, W], the student's -> what the network says of them, [B, C], not yet scaled."""
        self._follow(images.device)
        with torch.autocast(images.device.type, self.dtype, enabled=self.dtype != torch.float32):
            return in_class_order(self.network(self.view(images).float()), self.class_order)

    def _follow(self, device: torch.device) -> None:
        """Go where the images are; once, as even a move to where one is costs a walk through all weights."""
        if device == self._device:
            return
        self.network.to(device)
        self.class_order = None if self.class_order is None else self.class_order.to(device)
        self._device = device
