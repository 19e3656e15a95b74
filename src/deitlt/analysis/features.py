"""Rank of features: in how many directions they vary, from sums that do not grow with the images."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

VARIANCE = 0.99  # share that the counted components must hold
_ROUNDING = 1e-12  # variance below this share of the mean's square is float32 rounding of equal rows


class Rank(NamedTuple):
    """How many directions a set of features uses.

    components: the fewest principal components that hold 99 % of the variance (DeiT-LT, Rangwani et al., 2024, the
    rank of the distillation token's features). effective: the effective rank of their covariance matrix,
    exp of the entropy of its normalised eigenvalues (Roy and Vetterli, 2007, definition 1). Both are 0 where
    nothing varies: with one image, or equal features; NaN where a feature is not finite.
    """

    components: int | float
    effective: float


class FeatureCovariance:
    """Mean and covariance of rows of features, in float64: [D] and [D, D], whatever the number of rows.

    Batches are joined by the pairwise formula of Chan, Golub and LeVeque (1979), which loses no digits to a
    mean far from 0.
    """

    def __init__(self) -> None:
        self.count = 0
        self.mean: Tensor | None = None
        self.scatter: Tensor | None = None  # sum of the products of deviations from the mean

    def update(self, features: Tensor) -> None:
        """Add rows: [B, D]."""
        if len(features) == 0:
            return
        rows = features.double()
        count, mean = len(rows), rows.mean(dim=0)
        scatter = (rows - mean).T @ (rows - mean)
        if self.mean is None or self.scatter is None:
            self.count, self.mean, self.scatter = count, mean, scatter
            return
        step, total = mean - self.mean, self.count + count
        # Not in place: a batch under inference mode may follow one without, or come before it.
        self.mean = self.mean + step * (count / total)
        self.scatter = self.scatter + scatter + torch.outer(step, step) * (self.count * count / total)
        self.count = total

    @property
    def width(self) -> int:
        """D; 0 before the first row."""
        return 0 if self.mean is None else len(self.mean)

    def covariance(self) -> Tensor:
        """[D, D], divided by the number of rows; needs one row."""
        assert self.scatter is not None, "no row was added"
        return self.scatter / self.count

    def rank(self, variance: float = VARIANCE) -> Rank | None:
        """The rank of what was seen; None before the first row.

        Args:
            variance: share of the variance that the counted components must hold, above 0 to 1.
        """
        if self.mean is None:
            return None
        covariance = self.covariance().cpu()
        if not covariance.isfinite().all():
            return Rank(math.nan, math.nan)
        if covariance.trace() <= _ROUNDING * self.mean.square().sum().cpu():
            return Rank(0, 0.0)
        return rank_of(torch.linalg.eigvalsh(covariance), variance)


def rank_of(eigenvalues: Tensor, variance: float = VARIANCE) -> Rank:
    """eigenvalues: [D] of a covariance matrix, in any order, one above 0 -> its `Rank`."""
    shares = eigenvalues.double().clamp(min=0).sort(descending=True).values
    shares = shares / shares.sum()
    held = shares.cumsum(dim=0)
    # A share that rounding leaves a hair under the wanted one counts as reached.
    components = int((held < variance - 1e-9).sum()) + 1
    return Rank(min(components, len(shares)), float(torch.special.entr(shares).sum().exp()))


def ranks_as_plain(tokens: Mapping[str, Sequence[FeatureCovariance]]) -> dict[str, Any]:
    """Token -> its covariance after each block -> ``width`` and a token's ``components`` and ``effective``.

    Each is a list, a number a block; empty before the first image.
    """
    ranks = {name: [rank for seen in blocks if (rank := seen.rank()) is not None] for name, blocks in tokens.items()}
    measured = {name: blocks for name, blocks in ranks.items() if blocks}
    if not measured:
        return {}
    plain = {
        name: {"components": [rank.components for rank in blocks], "effective": [rank.effective for rank in blocks]}
        for name, blocks in measured.items()
    }
    return {"width": next(blocks[0].width for blocks in tokens.values()), **plain}
