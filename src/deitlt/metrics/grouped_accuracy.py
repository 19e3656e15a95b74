"""Accuracy of all images, of the classes, and of head, mid and tail."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor
from torchmetrics import Metric

from deitlt.types import IGNORED


class GroupedAccuracy(Metric):
    """Top-1 accuracy over images, classes and groups of classes, and top-k over images, in percent.

    Images are counted by class, and the counts are summed across ranks before anything is divided.
    `compute` gives

    - ``all``: the share of images answered right;
    - ``balanced``: the mean of the recalls of the classes that were seen;
    - one entry a group (``head``, ``mid``, ``tail``): the mean of the recalls of its classes that were seen;
    - ``top5``: the share of images whose class is among the five largest logits (or all, if fewer).

    What no image was seen of is absent, never NaN nor 0.

    Args:
        num_classes: C.
        groups: group -> its class ids.
        top_k: how many logits the last entry looks at; its name follows.
    """

    full_state_update = False
    higher_is_better = True
    is_differentiable = False
    hits: Tensor
    hits_top5: Tensor
    seen: Tensor

    def __init__(self, num_classes: int, groups: Mapping[str, Iterable[int]], top_k: int = 5) -> None:
        super().__init__()
        self.num_classes, self.top_k = num_classes, top_k
        self.groups = {name: [int(c) for c in classes] for name, classes in groups.items()}
        for state in ("hits", "hits_top5", "seen"):
            self.add_state(state, torch.zeros(num_classes, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, logits: Tensor, targets: Tensor) -> None:
        """Count a batch, without a wait for the device.

        Args:
            logits: [B, C].
            targets: [B] class ids; rows of `IGNORED` count nowhere.
        """
        counted = targets != IGNORED
        classes = targets.where(counted, 0)  # a row that does not count adds 0 to class 0
        truth = classes.unsqueeze(1)
        right = logits.argmax(dim=1) == classes
        among = (logits.topk(min(self.top_k, self.num_classes), dim=1).indices == truth).any(dim=1)
        self.seen = self.seen.index_add(0, classes, counted.long())
        self.hits = self.hits.index_add(0, classes, (right & counted).long())
        self.hits_top5 = self.hits_top5.index_add(0, classes, (among & counted).long())

    def compute(self) -> dict[str, Tensor]:
        """Accuracies in percent, scalars; empty before the first image."""
        recalls, images = self._recalls(), self.seen.sum().item()
        if images == 0:
            return {}
        names = {"balanced": list(range(self.num_classes)), **self.groups}
        means = {name: recalls[classes].nanmean() for name, classes in names.items()}
        return {
            "all": 100 * self.hits.sum().cpu().double() / images,
            **{name: mean for name, mean in means.items() if not mean.isnan()},
            f"top{self.top_k}": 100 * self.hits_top5.sum().cpu().double() / images,
        }

    def per_class(self) -> Tensor:
        """Each class's recall in percent, over all ranks, [C]; NaN for a class of which no image was seen."""
        with self.sync_context():
            return self._recalls()

    def _recalls(self) -> Tensor:
        return 100 * self.hits.cpu().double() / self.seen.cpu()  # 0 / 0 is NaN
