"""Cutout: a black square at a random place, which the border may cut off."""

import torch
from torch import Tensor, nn


class Cutout(nn.Module):
    """Blackens one square of each image (DeVries and Taylor, 2017, section 3.2).

    The square's centre is uniform over the image's pixels, so that up to three quarters of the square may lie
    outside. Random erasing, which timm and torchvision have, keeps its rectangle inside.

    Args:
        share: the square's side as a share of the image's side: 0.5 is 16 pixels of 32. 0 blackens nothing.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, image: Tensor) -> Tensor:
        """image: [3, H, W], not normalised -> a copy with the square at 0, which is black."""
        top, bottom = self._span(image.shape[-2])
        left, right = self._span(image.shape[-1])
        cut = image.clone()
        cut[..., top:bottom, left:right] = 0
        return cut

    def _span(self, side: int) -> tuple[int, int]:
        half = round(self.share * side / 2)
        centre = int(torch.randint(side, ()))
        return max(centre - half, 0), min(centre + half, side)
