"""The cosine classifier, whose logits do not grow with a class's frequency."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class CosineLinear(nn.Module):
    """Logits that are cosines: features and class vectors both have length one.

    LDAM's margins (Cao et al., 2019, section 3.3) are distances only between such vectors. The loss
    scales them up again. The weight is [in_features, out_features], a column a class, as in the
    published teachers, so that their files load.

    Args:
        in_features: length D of a feature row.
        out_features: classes C.
    """

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        # Random directions: only the direction of a column matters.
        self.weight = nn.Parameter(F.normalize(torch.empty(in_features, out_features).uniform_(-1, 1), dim=0))

    def forward(self, features: Tensor) -> Tensor:
        """features: [B, D] -> cosines: [B, C], in [-1, 1]."""
        return F.normalize(features, dim=1) @ F.normalize(self.weight, dim=0)
