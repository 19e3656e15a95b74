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
        dtype: the precision that the teacher answers in, whatever the student trains in.
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

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """images: [B, 3, H, W], the student's -> decisions [B] or logits [B, C]."""
        network = self.network.to(images.device, self.dtype)
        with torch.autocast(images.device.type, enabled=False):
            logits = in_class_order(network(self.view(images).to(self.dtype)), self.class_order)
        return logits.argmax(dim=1) if self.decisions else self.scale * logits.float()
