"""Mixup and CutMix of whole batches, one draw a batch, with soft targets."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from deitlt.errors import ConfigError


@dataclass(frozen=True)
class BatchMixing:
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
    """

    num_classes: int
    mixup: float = 0.8
    cutmix: float = 1.0
    switch: float = 0.5
    probability: float = 1.0
    smoothing: float = 0.1

    def __post_init__(self) -> None:
        for name in ("switch", "probability", "smoothing"):
            if not 0 <= getattr(self, name) <= 1:
                key = f"student.views.mixing.{name}"
                raise ConfigError(f"{key}={getattr(self, name)} is no share; type a number from 0 to 1.")
        if self.mixup < 0 or self.cutmix < 0:
            raise ConfigError(
                f"student.views.mixing has mixup={self.mixup} and cutmix={self.cutmix}; type 0 (off) or more."
            )

    def __call__(self, images: Tensor, targets: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Mix one batch.

        Args:
            images: [B, 3, H, W].
            targets: [B] class ids.
            rng: where this batch's draws come from.

        Returns:
            images: [B, 3, H, W], a new tensor where mixed; targets: [B, C] probabilities.
        """
        kept = 1.0
        if (self.mixup or self.cutmix) and rng.random() < self.probability:
            images, kept = self._mix(images, rng)
        soft = self.soften(targets)
        return images, kept * soft + (1 - kept) * soft.flip(0)

    def soften(self, targets: Tensor) -> Tensor:
        """targets: [B] -> [B, C]: 1 - smoothing for the truth, and smoothing / C for every class."""
        hard = F.one_hot(targets, self.num_classes).float()
        return hard * (1 - self.smoothing) + self.smoothing / self.num_classes

    def _mix(self, images: Tensor, rng: np.random.Generator) -> tuple[Tensor, float]:
        use_cutmix = self.cutmix > 0 and (self.mixup == 0 or rng.random() < self.switch)
        alpha = self.cutmix if use_cutmix else self.mixup
        kept = float(rng.beta(alpha, alpha))
        return _paste(images, kept, rng) if use_cutmix else (kept * images + (1 - kept) * images.flip(0), kept)


def _paste(images: Tensor, kept: float, rng: np.random.Generator) -> tuple[Tensor, float]:
    """Paste a rectangle of about 1 - kept of the area; return the share that was really kept."""
    height, width = images.shape[-2:]
    top, bottom = _span(height, kept, rng)
    left, right = _span(width, kept, rng)
    mixed = images.clone(memory_format=torch.preserve_format)
    mixed[..., top:bottom, left:right] = images.flip(0)[..., top:bottom, left:right]
    return mixed, 1 - (bottom - top) * (right - left) / (height * width)


def _span(length: int, kept: float, rng: np.random.Generator) -> tuple[int, int]:
    """A random span of sqrt(1 - kept) of `length` around a uniform centre, cut off at the borders."""
    half = int(length * np.sqrt(1 - kept)) // 2
    centre = int(rng.integers(length))
    return max(centre - half, 0), min(centre + half, length)
