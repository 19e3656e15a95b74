"""Means over images, and over the classes of a group, from sums by class."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor


class ClassSums:
    """Sums of values of images by class: [C], whatever the number of images.

    Means are `GroupedAccuracy`'s: ``all`` is the mean over images, a group the mean of the means of its
    classes that were seen; what no image was seen of is absent. A value that is NaN makes its means NaN.

    Args:
        num_classes: C.
        groups: group -> its class ids.
    """

    def __init__(self, num_classes: int, groups: Mapping[str, Sequence[int]]) -> None:
        self.groups = {name: list(classes) for name, classes in groups.items()}
        self.totals = torch.zeros(num_classes, dtype=torch.float64)
        self.seen = torch.zeros(num_classes, dtype=torch.int64)

    def update(self, values: Tensor, classes: Tensor) -> None:
        """values: [B], numbers or yes and no; classes: [B], of the same images."""
        if self.totals.device != values.device:
            self.totals, self.seen = self.totals.to(values.device), self.seen.to(values.device)
        self.totals = self.totals.index_add(0, classes, values.double())
        self.seen = self.seen.index_add(0, classes, torch.ones_like(classes))

    def means(self) -> dict[str, float]:
        """``all`` and a value a group."""
        totals, seen = self.totals.cpu(), self.seen.cpu()
        if seen.sum() == 0:
            return {}
        counts = seen.tolist()
        of_groups = {name: [c for c in classes if counts[c]] for name, classes in self.groups.items()}
        means = {name: float((totals / seen)[known].mean()) for name, known in of_groups.items() if known}
        return {"all": float(totals.sum() / seen.sum()), **means}
