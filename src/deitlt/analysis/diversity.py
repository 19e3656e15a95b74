"""Expert diversity: how far the class token and the distillation token of a student are apart."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from deitlt.analysis.class_sums import ClassSums
from deitlt.types import TokenLogits


class ExpertDiversity:
    """How far CLS and DIST are apart, in their features and in their decisions.

    ``cosine_distance``: 1 - cosine of the two features that the heads read (DeiT-LT, Rangwani et al., 2024, the
    figure on the experts' diversity; from seed to seed it varies much). ``disagreement``: percent of images for
    which they decide for different classes (the disagreement measure of Skalak, 1996, of two classifiers). Both over
    all images and by group of the true class, as `ClassSums` takes means. ``per_block``: the mean over images of 1 -
    cosine of the tokens as they leave each block.

    Args:
        num_classes: C.
        groups: group -> its class ids.
    """

    def __init__(self, num_classes: int, groups: Mapping[str, Sequence[int]]) -> None:
        self.distance = ClassSums(num_classes, groups)
        self.disagreement = ClassSums(num_classes, groups)
        self.blocks: list[Tensor] = []
        self.block_images: list[int] = []

    def update(self, features: Tensor, logits: TokenLogits, classes: Tensor) -> None:
        """Add a batch.

        Args:
            features: [B, 2, D], CLS and DIST as their heads read them.
            logits: [B, C] of each.
            classes: [B], the true ones.
        """
        assert logits.dist is not None, "one token is not diverse"
        self.distance.update(cosine_distance(features), classes)
        self.disagreement.update(logits.cls.argmax(dim=1) != logits.dist.argmax(dim=1), classes)

    def update_block(self, block: int, tokens: Tensor) -> None:
        """Add what leaves a block: its index, CLS and DIST [B, 2, D]; blocks come first to last."""
        if block == len(self.blocks):
            self.blocks.append(tokens.new_zeros((), dtype=torch.float64))
            self.block_images.append(0)
        self.blocks[block] = self.blocks[block] + cosine_distance(tokens).double().sum()
        self.block_images[block] += len(tokens)

    def as_plain(self) -> dict[str, dict[str, float] | list[float]]:
        """The three by name; empty before the first image."""
        distance, disagreement = self.distance.means(), self.disagreement.means()
        if not distance:
            return {}
        blocks = [float(total) / images for total, images in zip(self.blocks, self.block_images, strict=True)]
        percent = {name: 100 * share for name, share in disagreement.items()}
        return {"cosine_distance": distance, "disagreement": percent, "per_block": blocks}


def cosine_distance(pairs: Tensor) -> Tensor:
    """pairs: [B, 2, D] -> 1 - cosine of each pair: [B], from 0 (one direction) to 2 (opposite)."""
    first, second = pairs.float().unbind(dim=1)
    return 1 - F.cosine_similarity(first, second, dim=1)
