"""Accuracy by token and by group of classes (head, mid, tail), and sparse confusion counts."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from deitlt.losses.classification import at_least_float32
from deitlt.metrics.fusion import Fusion
from deitlt.types import IGNORED, TokenLogits

if TYPE_CHECKING:
    from matplotlib.axes import Axes

M = TypeVar("M", bound=Metric)


class GroupedAccuracy(Metric):
    """Top-1 accuracy over images, classes and groups of classes, and top-k over images, in percent.

    Images are counted by class, and the counts are summed over ranks before anything is divided. `compute` returns

    - ``all``: the share of images classified correctly;
    - ``balanced``: the mean recall of the classes that were seen;
    - one entry a group (``head``, ``mid``, ``tail``): the mean recall of its classes that were seen;
    - ``top5``: the share of images whose class is among the five largest logits (or all, if fewer).

    Groups of which no image was seen are absent, never NaN nor 0.

    Args:
        num_classes: C.
        groups: group -> its class ids.
        top_k: k of the last entry, ``top{k}``.
        by_image: also keep whether each image was classified correctly, a byte an image (`rights`).
        **options: torchmetrics', such as `sync_on_compute`.
    """

    full_state_update = False
    higher_is_better = True
    is_differentiable = False
    plot_lower_bound, plot_upper_bound = 0.0, 100.0
    hits: Tensor
    hits_top5: Tensor
    seen: Tensor

    def __init__(
        self,
        num_classes: int,
        groups: Mapping[str, Iterable[int]],
        top_k: int = 5,
        by_image: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.num_classes, self.top_k, self.by_image = num_classes, top_k, by_image
        self.rights: list[Tensor] = []  # of this rank's batches, [B] each: 1, 0, or `IGNORED`; no state to be summed
        self.groups = {name: [int(c) for c in classes] for name, classes in groups.items()}
        for state in ("hits", "hits_top5", "seen"):
            self.add_state(state, torch.zeros(num_classes, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, logits: Tensor, targets: Tensor) -> None:
        """Count a batch, without waiting for the device.

        Args:
            logits: [B, C].
            targets: [B] class ids; rows of `IGNORED` are not counted.
        """
        counted = targets != IGNORED
        classes = targets.where(counted, 0)  # an ignored row adds 0 to class 0
        truth = classes.unsqueeze(1)
        right = logits.argmax(dim=1) == classes
        among = (logits.topk(min(self.top_k, self.num_classes), dim=1).indices == truth).any(dim=1)
        self.seen = self.seen.index_add(0, classes, counted.long())
        self.hits = self.hits.index_add(0, classes, (right & counted).long())
        self.hits_top5 = self.hits_top5.index_add(0, classes, (among & counted).long())
        if self.by_image:
            self.rights.append(right.to(torch.int8).where(counted, IGNORED))

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

    def plot(self, val: dict[str, Tensor] | Sequence[dict[str, Tensor]] | None = None, ax: "Axes | None" = None) -> Any:
        """Draw the accuracies, or several of their values one after the other, as torchmetrics' metrics do.

        Args:
            val: what `compute` or the metric's call gave; None computes it.
            ax: where to draw; None makes a figure.

        Returns:
            matplotlib's figure and axes.
        """
        return self._plot(val, ax)  # as torchmetrics' guide for metrics of one's own has it

    def per_class(self) -> Tensor:
        """Each class's recall in percent, over all ranks, [C]; NaN for a class of which no image was seen."""
        with self.sync_context():
            return self._recalls()

    def _recalls(self) -> Tensor:
        return 100 * self.hits.cpu().double() / self.seen.cpu()  # 0 / 0 is NaN


def logits_by_token(logits: TokenLogits) -> dict[str, Tensor]:
    """``cls``, and with a distillation token ``dist`` and ``avg``, the mean of the two; each [B, C].

    In at least float32: a mean in fewer bits has ties, of which the most frequent class wins.
    """
    cls = at_least_float32(logits.cls)
    if logits.dist is None:
        return {"cls": cls}
    dist = at_least_float32(logits.dist)
    return {"cls": cls, "dist": dist, "avg": (cls + dist) / 2}


class TokenMetrics(nn.Module, Generic[M]):
    """A metric for each token.

    Args:
        metrics: ``cls``, ``dist`` or ``avg``, or the name of a fusion -> its metric.
        fusions: further answers, made of both tokens: name -> rule.
    """

    def __init__(self, metrics: Mapping[str, M], fusions: Mapping[str, Fusion] | None = None) -> None:
        super().__init__()
        self.metrics = nn.ModuleDict(metrics)
        self.fusions = dict(fusions or {})

    def update(self, logits: TokenLogits, targets: Tensor) -> None:
        """Count a batch: logits [B, C] a token; targets [B] class ids or `IGNORED`."""
        answers = logits_by_token(logits) | {name: fuse(logits) for name, fuse in self.fusions.items()}
        for token, metric in self.by_token().items():
            metric.update(answers[token], targets)

    def compute(self) -> dict[str, dict[str, float]]:
        """Token -> name -> percent, over all ranks; names as the metric gives them."""
        return {
            token: {name: float(value) for name, value in metric.compute().items()}
            for token, metric in self.by_token().items()
        }

    def by_token(self) -> dict[str, M]:
        """The metric of each token."""
        return cast(dict[str, M], dict(self.metrics.items()))


class TokenAccuracy(TokenMetrics[GroupedAccuracy]):
    """A `GroupedAccuracy` for each token that the student has.

    Args:
        num_classes: C.
        groups: group -> its class ids.
        tokens: of ``cls``, ``dist`` and ``avg`` those to measure; ``("cls",)`` for a student without a
            distillation token.
        fusions: as in `TokenMetrics`.
        by_image: as in `GroupedAccuracy`.
    """

    def __init__(
        self,
        num_classes: int,
        groups: Mapping[str, Iterable[int]],
        tokens: Sequence[str],
        fusions: Mapping[str, Fusion] | None = None,
        by_image: bool = False,
    ) -> None:
        classes = {name: list(members) for name, members in groups.items()}
        names = [*tokens, *(fusions or {})]
        metrics = {name: GroupedAccuracy(num_classes, classes, by_image=by_image) for name in names}
        super().__init__(metrics, fusions)

    def per_class(self) -> dict[str, list[float | None]]:
        """Token -> each class's recall in percent, over all ranks; None where no image was seen."""
        return {
            token: [None if recall != recall else recall for recall in accuracy.per_class().tolist()]
            for token, accuracy in self.by_token().items()
        }

    def rights(self) -> Tensor:
        """Of each token, in the order of `by_token`, what became of each image that this rank saw, in their order.

        Returns:
            [T, n] int8: 1 is right, 0 is wrong, `IGNORED` does not count.
        """
        return torch.stack([torch.cat(accuracy.rights) for accuracy in self.by_token().values()])

    def hits(self, rights: Tensor) -> dict[str, NDArray[np.bool_]]:
        """Token -> whether each image was classified correctly, [N], in the order of the data set.

        Args:
            rights: [R, T, n], those of each rank, of which rank r was dealt the images r, r + R, r + 2R, ...
        """
        rows = rights.permute(1, 2, 0).flatten(1).cpu().numpy()
        return {token: row[row != IGNORED] == 1 for token, row in zip(self.by_token(), rows, strict=True)}


class ClassPairs(NamedTuple):
    """The non-zero entries of a confusion matrix, on the CPU.

    truth, answer: [P] class ids of target and prediction. images: [P] counts.
    """

    truth: Tensor
    answer: Tensor
    images: Tensor

    def matrix(self, num_classes: int) -> Tensor:
        """The dense matrix, [C, C] counts, a row a true class, a column a prediction; for few classes only."""
        dense = torch.zeros(num_classes, num_classes, dtype=torch.int64)
        dense[self.truth, self.answer] = self.images
        return dense


class Confusions(Metric):
    """Counts pairs of true and predicted class, over all ranks.

    A dense matrix of 8,142 classes takes 530 MB; here each image takes 8 bytes.

    Args:
        num_classes: C.
    """

    full_state_update = False
    is_differentiable = False
    pairs: list[Tensor]

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.add_state("pairs", [], dist_reduce_fx="cat")

    def update(self, logits: Tensor, targets: Tensor) -> None:
        """Count a batch, without waiting for the device.

        Args:
            logits: [B, C].
            targets: [B] class ids; rows of `IGNORED` are not counted.
        """
        pairs = targets * self.num_classes + logits.argmax(dim=1)
        self.pairs.append(pairs.where(targets != IGNORED, IGNORED))

    def compute(self) -> ClassPairs:
        """As `class_pairs`; torchmetrics squeezes results of one entry."""
        return self._counted()

    def class_pairs(self) -> ClassPairs:
        """The pairs that were seen, over all ranks, sorted by class."""
        with self.sync_context():
            return self._counted()

    def _counted(self) -> ClassPairs:
        pairs = dim_zero_cat(self.pairs).cpu().long() if len(self.pairs) else torch.zeros(0, dtype=torch.int64)
        found, images = torch.unique(pairs[pairs != IGNORED], return_counts=True)
        return ClassPairs(found // self.num_classes, found % self.num_classes, images)
