"""CLS, DIST and the teacher as experts: how far apart their decisions are, and who is right on which class."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypedDict

import torch
from torch import Tensor
from torch.nn import functional as F

from deitlt.types import IGNORED, TokenLogits

Teacher = Callable[[Tensor], Tensor]  # images [B, 3, H, W] -> logits [B, C]
Winner = Literal["cls", "dist", "tie"]
ClassWinner = TypedDict("ClassWinner", {"class": int, "cls": float, "dist": float, "winner": Winner})


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
        """values: [B], numbers or booleans; classes: [B], of the same images."""
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


class ExpertDiversity:
    """How far CLS and DIST are apart, in their features and in their decisions.

    ``cosine_distance``: 1 - cosine of the two features that the heads read (DeiT-LT, Rangwani et al., 2024, the
    figure on the experts' diversity; it varies much from seed to seed). ``disagreement``: percent of images for
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
        """Add a block's output: its index, CLS and DIST [B, 2, D]; blocks come first to last."""
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


class TokenWinners:
    """Recall of the class token and of the distillation token on each class, and whose is the higher.

    Recall is the share of a class's images that a token decides right, in percent; equal numbers of
    right decisions are a tie. (DeiT-LT, Rangwani et al., 2024: CLS becomes the head's expert, DIST the tail's.)

    Args:
        num_classes: C.
    """

    def __init__(self, num_classes: int) -> None:
        self.cls, self.dist = ClassSums(num_classes, {}), ClassSums(num_classes, {})

    def update(self, logits: TokenLogits, classes: Tensor) -> None:
        """Count a batch: logits [B, C] of each token; classes [B], the true ones."""
        assert logits.dist is not None, "one token has no rival"
        self.cls.update(logits.cls.argmax(dim=1) == classes, classes)
        self.dist.update(logits.dist.argmax(dim=1) == classes, classes)

    def as_plain(self) -> dict[str, Any]:
        """Classes won by ``cls``, by ``dist`` and by neither (``tie``), and ``classes`` with each one's recalls.

        Empty before the first image; a class of which no image was seen is absent.
        """
        classes: list[ClassWinner] = []
        hits = torch.stack([self.cls.totals, self.dist.totals, self.cls.seen], dim=1).tolist()
        for index, (cls, dist, seen) in enumerate(hits):
            if seen:
                winner: Winner = "tie" if cls == dist else "cls" if cls > dist else "dist"
                classes.append({"class": index, "cls": 100 * cls / seen, "dist": 100 * dist / seen, "winner": winner})
        won = [row["winner"] for row in classes]
        counts = {"cls": won.count("cls"), "dist": won.count("dist"), "tie": won.count("tie")}
        return {**counts, "classes": classes} if classes else {}


class Decisions(NamedTuple):
    """A teacher's decisions [N] for N images, and their true classes [N], on the CPU."""

    decisions: Tensor
    labels: Tensor


def decide(teacher: Teacher, batches: Iterable[tuple[Tensor, Tensor]]) -> Decisions | None:
    """Ask a teacher about images, batch by batch; two numbers an image are kept.

    Args:
        teacher: images [B, 3, H, W], the student's -> logits [B, C].
        batches: images and their class ids [B]; those of `IGNORED` are left out.

    Returns:
        The decisions; None where a logit is not finite: the argmax of NaNs would be class 0.
    """
    decisions, labels = [torch.empty(0, dtype=torch.int64)], [torch.empty(0, dtype=torch.int64)]
    for images, targets in batches:
        logits = teacher(images)
        if not logits.isfinite().all():
            return None
        counted = (targets != IGNORED).cpu()
        decisions.append(logits.argmax(dim=1).cpu()[counted])
        labels.append(targets.cpu()[counted])
    return Decisions(torch.cat(decisions), torch.cat(labels))


def agreement(
    found: Decisions, groups: Mapping[str, Sequence[int]], counts: Sequence[int], reference: Decisions | None = None
) -> dict[str, float]:
    """How often the teacher's decision is the true class, in percent.

    The less often, the farther from what it was trained on: the distillation out of distribution of Rangwani et
    al., "DeiT-LT", CVPR 2024, section 3.1, as a number (the definition is ours). ``all`` is the share of the
    training images, estimated class by class and weighted by `counts`, so that it does not depend on how many of
    each class were looked at. A group's is the mean of its classes', as in `GroupedAccuracy`. What no image was
    seen of is absent.

    Args:
        found: on the images in question.
        groups: group -> its class ids.
        counts: training images of each class.
        reference: the same teacher's on the same images in the same order, unaugmented; then it is counted how
            often it stays with its decision, whether that was right or not.
    """
    wanted = found.labels if reference is None else reference.decisions
    assert len(wanted) == len(found.decisions), "not the same images"
    sums = ClassSums(len(counts), groups)
    sums.update(found.decisions == wanted, found.labels)
    means = sums.means()
    if not means:
        return {}
    sizes = torch.tensor(counts, dtype=torch.float64) * (sums.seen > 0)
    if sizes.any():
        means["all"] = float((sums.totals / sums.seen.clamp(min=1) * sizes).sum() / sizes.sum())
    return {name: 100 * mean for name, mean in means.items()}
