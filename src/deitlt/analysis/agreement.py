"""How far out of the teacher's distribution the student's images are: how often it is right about them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from deitlt.analysis.class_sums import ClassSums
from deitlt.types import IGNORED

Labeller = Callable[[Tensor], Tensor]


class Decisions(NamedTuple):
    """What a teacher said of N images: decisions [N] and the true classes [N], on the CPU."""

    decisions: Tensor
    labels: Tensor


def decide(labeller: Labeller, batches: Iterable[tuple[Tensor, Tensor]]) -> Decisions | None:
    """Ask a teacher about images, batch by batch; two numbers an image are kept.

    Args:
        labeller: images [B, 3, H, W], the student's -> decisions [B] or logits [B, C], as `LiveTeacher`.
        batches: images and their class ids [B]; those of `IGNORED` are left out.

    Returns:
        The decisions; None where a logit is not finite: the largest of NaNs would be class 0.
    """
    decisions, labels = [torch.empty(0, dtype=torch.int64)], [torch.empty(0, dtype=torch.int64)]
    for images, targets in batches:
        answers = labeller(images)
        if not answers.isfinite().all():
            return None
        chosen = answers.argmax(dim=1) if answers.ndim == 2 else answers
        counted = (targets != IGNORED).cpu()
        decisions.append(chosen.cpu()[counted])
        labels.append(targets.cpu()[counted])
    return Decisions(torch.cat(decisions), torch.cat(labels))


def agreement(
    found: Decisions, groups: Mapping[str, Sequence[int]], counts: Sequence[int], reference: Decisions | None = None
) -> dict[str, float]:
    """How often the teacher's decision is the truth, in percent.

    The less often, the farther from what it was trained on: the distillation out of distribution of Rangwani et
    al., "DeiT-LT", CVPR 2024, section 3.1, as a number (the definition is ours). ``all`` is the share of the
    training images, estimated class by class and weighed by `counts`, so that it does not depend on how many of
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
