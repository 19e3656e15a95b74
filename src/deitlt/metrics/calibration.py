"""Expected calibration error by token: over all images, and in head, mid and tail."""

from collections.abc import Iterable, Mapping, Sequence
from typing import cast

import torch
from torch import Tensor
from torchmetrics import Metric

from deitlt.metrics.accuracy import TokenMetrics
from deitlt.types import IGNORED

BINS = 15
_UNITS = 2**32  # of a confidence of 1: whole numbers have the same sum in any order, on any number of ranks


class GroupedCalibration(Metric):
    """Expected calibration error (ECE) over all images and over those of each group of classes, in percent.

    ``sum_m |B_m| / n * |acc(B_m) - conf(B_m)|`` over bins of equal width ``((m - 1) / M, m / M]`` of the confidence,
    the largest probability (Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, eqs. 1 to 3; M = 15
    as in its section 5). An image belongs to the group of its true class. `compute` gives ``all`` and one entry a
    group; a group of which no image was seen is absent.

    Three sums for each class and bin are kept, whatever the number of images; torchmetrics' own class keeps every
    confidence.

    Args:
        num_classes: C.
        groups: group -> its class ids.
        bins: M.
    """

    full_state_update = False
    higher_is_better = False
    is_differentiable = False
    seen: Tensor
    hits: Tensor
    confidence: Tensor

    def __init__(self, num_classes: int, groups: Mapping[str, Iterable[int]], bins: int = BINS) -> None:
        super().__init__()
        assert bins >= 1
        self.num_classes, self.bins = num_classes, bins
        self.groups = {name: [int(c) for c in classes] for name, classes in groups.items()}
        for state in ("seen", "hits", "confidence"):  # [C * M], a class's bins side by side
            self.add_state(state, torch.zeros(num_classes * bins, dtype=torch.int64), dist_reduce_fx="sum")
        self.register_buffer("edges", torch.linspace(0, 1, bins + 1, dtype=torch.float64), persistent=False)

    def update(self, logits: Tensor, targets: Tensor) -> None:
        """Count a batch, without waiting for the device.

        Args:
            logits: [B, C], whose softmax is the network's probabilities.
            targets: [B] class ids; rows of `IGNORED` are not counted.
        """
        counted = targets != IGNORED
        classes = targets.where(counted, 0)  # a row that does not count adds 0 to class 0
        confidence, answers = logits.float().softmax(dim=1).double().max(dim=1)
        bins = (torch.bucketize(confidence, cast(Tensor, self.edges)) - 1).clamp(0, self.bins - 1)
        places = classes * self.bins + bins
        units = (confidence * _UNITS).round().long()
        self.seen = self.seen.index_add(0, places, counted.long())
        self.hits = self.hits.index_add(0, places, ((answers == classes) & counted).long())
        self.confidence = self.confidence.index_add(0, places, units * counted)

    def compute(self) -> dict[str, Tensor]:
        """Calibration errors in percent, scalars; empty before the first image."""
        members = {"all": list(range(self.num_classes)), **self.groups}
        return {name: error for name, classes in members.items() if (error := self._error(classes)) is not None}

    def _error(self, classes: Sequence[int]) -> Tensor | None:
        """The error over the images of some classes; None where there is none."""
        seen, hits, units = (
            state.cpu().view(self.num_classes, self.bins)[classes].sum(dim=0)
            for state in (self.seen, self.hits, self.confidence)
        )
        if not seen.any():
            return None
        gaps = (hits.double() - units.double() / _UNITS).abs()  # |B_m| times the gap of a bin
        return 100 * gaps.sum() / seen.sum()


class TokenCalibration(TokenMetrics[GroupedCalibration]):
    """A `GroupedCalibration` for each token that a student has; of a teacher's logits, for ``cls`` alone.

    Args:
        num_classes: C.
        groups: group -> its class ids.
        tokens: of ``cls``, ``dist`` and ``avg`` those to measure.
    """

    def __init__(self, num_classes: int, groups: Mapping[str, Iterable[int]], tokens: Sequence[str]) -> None:
        classes = {name: list(members) for name, members in groups.items()}
        super().__init__({token: GroupedCalibration(num_classes, classes) for token in tokens})
