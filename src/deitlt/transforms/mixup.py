"""Mixup and CutMix of a batch, and their soft targets."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from deitlt.types import Pasted


class Mixed(NamedTuple):
    """A mixed batch: images [B, 3, H, W]; targets [B, C] probabilities; pasted: what TransMix needs, or None."""

    images: Tensor
    targets: Tensor
    pasted: Pasted | None


@dataclass(frozen=True)
class Mixup:
    """Mixes each image with the one at the mirrored place of the batch, all in the same proportion.

    Mixup (Zhang et al., 2018) blends pixels, CutMix (Yun et al., 2019) pastes a rectangle; one draw
    decides for the batch which of them, as in DeiT's recipe. Batches of odd length are allowed: the
    middle image meets itself. Every draw comes from the generator that is handed in.

    Args:
        num_classes: classes C.
        mixup: the Beta distribution's parameter for Mixup's proportion; 0 for no Mixup.
        cutmix: the same for CutMix.
        switch: probability of CutMix where both are on.
        probability: probability that a batch is mixed at all.
        smoothing: share of the target that is spread evenly over all classes.
        attention: hand on where CutMix pasted, so that the targets can follow the student's attention
            instead of the area (TransMix, Chen et al., CVPR 2022).
    """

    num_classes: int
    mixup: float = 0.8
    cutmix: float = 1.0
    switch: float = 0.5
    probability: float = 1.0
    smoothing: float = 0.1
    attention: bool = False

    def __call__(self, images: Tensor, targets: Tensor, rng: np.random.Generator) -> Mixed:
        """Mix one batch.

        Args:
            images: [B, 3, H, W].
            targets: [B] class ids.
            rng: where this batch's draws come from.

        Returns:
            New images where they were mixed, and soft targets always.
        """
        soft = self.soften(targets)
        if not (self.mixup or self.cutmix) or rng.random() >= self.probability:
            return Mixed(images, soft, None)
        use_cutmix = self.cutmix > 0 and (self.mixup == 0 or rng.random() < self.switch)
        alpha = self.cutmix if use_cutmix else self.mixup
        kept = float(rng.beta(alpha, alpha))
        if not use_cutmix:
            return Mixed(_blend(images, kept), _blend(soft, kept), None)
        mask, kept = _rectangle(images, kept, rng)
        pasted = Pasted(mask, soft, soft.flip(0)) if self.attention else None
        return Mixed(torch.where(mask, images.flip(0), images), _blend(soft, kept), pasted)

    def soften(self, targets: Tensor) -> Tensor:
        """targets: [B] -> [B, C]: 1 - smoothing for the truth, and smoothing / C for every class."""
        # At once in float32, where `F.one_hot` is eight bytes a class first.
        hard = torch.zeros(len(targets), self.num_classes, device=targets.device).scatter_(1, targets[:, None], 1.0)
        return hard * (1 - self.smoothing) + self.smoothing / self.num_classes


def _blend(values: Tensor, kept: float) -> Tensor:
    """Each row with its partner, in one proportion."""
    return kept * values + (1 - kept) * values.flip(0)


def _rectangle(images: Tensor, kept: float, rng: np.random.Generator) -> tuple[Tensor, float]:
    """A mask [H, W] on the images' device, True in a rectangle of about 1 - kept of the area, cut off at the borders.

    Beside it the share of the area that is really kept, known without asking the device.
    """
    height, width = images.shape[-2:]
    top, bottom = _span(height, kept, rng)
    left, right = _span(width, kept, rng)
    mask = torch.zeros(height, width, dtype=torch.bool, device=images.device)
    mask[top:bottom, left:right].fill_(True)
    return mask, 1 - (bottom - top) * (right - left) / mask.numel()


def _span(length: int, kept: float, rng: np.random.Generator) -> tuple[int, int]:
    """A random span of sqrt(1 - kept) of `length` around a uniform centre, cut off at the borders."""
    half = int(length * np.sqrt(1 - kept)) // 2
    centre = int(rng.integers(length))
    return max(centre - half, 0), min(centre + half, length)


def attention_targets(attention: Tensor, pasted: Pasted) -> Tensor:
    """Targets whose proportion is the attention on each image's patches, in place of their area.

    ``lambda = A . down(M)`` (Chen et al., "TransMix: Attend to Mix for Vision Transformers", CVPR 2022,
    eq. 3), with the mask M brought to the grid of patches by nearest neighbour. The equation alone: the
    published code takes the mean of this share and the area's.

    Args:
        attention: [B, P], the class token's attention to each of P patches, rows sum to 1; no gradient.
        pasted: the mask [H, W] and both images' class probabilities [B, C].

    Returns:
        [B, C] class probabilities.
    """
    grid = math.isqrt(attention.shape[1])
    assert grid * grid == attention.shape[1], "the patches are no square grid"
    mask = F.interpolate(pasted.mask[None, None].float(), size=(grid, grid), mode="nearest").flatten()
    partner = (attention.to(mask) @ mask).unsqueeze(1)
    return (1 - partner) * pasted.own + partner * pasted.partner
