"""TransMix: what a CutMix image is called follows what the student looks at."""

import math

from torch import Tensor
from torch.nn import functional as F

from deitlt.types import Pasted


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
