"""Sharpness: how much the loss curves around the weights, over all images and in head, mid and tail."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deitlt.analysis.curvature import largest_eigenvalue, random_direction
from deitlt.analysis.hessian import Loss, LossHessian, differentiable_twice
from deitlt.types import IGNORED, ImageBatch, TokenLogits

START = 0  # names the stream of the vector that the search for an eigenvalue starts from


@dataclass(frozen=True)
class Sharpness:
    """The Hessian of a loss with respect to the weights.

    eigenvalue: its largest. trace: the mean of the probes' estimates. trace_error: the standard error of that
    mean; 0 with one probe. images: over how many the loss is a mean.
    """

    eigenvalue: float
    trace: float
    trace_error: float
    images: int

    def as_plain(self) -> dict[str, float]:
        """The numbers by name."""
        return asdict(self)


def truth_losses(answers: Tensor | TokenLogits, targets: Tensor, scale: float = 1.0) -> Tensor:
    """Each image's cross-entropy to its true class, [B]; of a student with two tokens the mean of both tokens'.

    Neither smoothed, weighted nor mixed, and not to the teacher's decisions, so that networks compare that were
    trained with different losses.

    Args:
        answers: a teacher's logits [B, C], or a student's of each token.
        targets: [B] class ids.
        scale: what makes logits of the answers, where they are cosines.
    """
    tokens = [answers] if isinstance(answers, Tensor) else [token for token in answers if token is not None]
    losses = [F.cross_entropy(scale * logits.float(), targets, reduction="none") for logits in tokens]
    return torch.stack(losses).mean(dim=0)


def sharpness(
    network: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    groups: Mapping[str, Sequence[int]],
    loss: Loss = truth_losses,
    batch_size: int = 32,
    tolerance: float = 1e-3,
    products: int = 40,
    probes: int = 10,
    seed: int = 0,
) -> dict[str, Sharpness]:
    """Largest eigenvalue and trace of the Hessian of the mean loss, over all images and over those of each group.

    The trace by Hutchinson's estimator, ``E[v . Hv]`` over random signs v (Hutchinson, 1990); the eigenvalue as in
    `largest_eigenvalue`. Per class in long-tailed training: Rangwani et al., "Escaping Saddle Points for Effective
    Generalization on Class-Imbalanced Data", NeurIPS 2022, where tail classes lie at saddles without SAM.

    The network is in evaluation mode meanwhile: BatchNorm uses its averages, nothing is dropped. The images are kept,
    since each product runs over all of them: hand in as many as are to be measured, of the training images where it
    is the minimum that was found that matters. Beside them, one micro-batch's graph is held, and a few vectors of
    the weights' size.

    Args:
        network: images [B, 3, H, W] -> what `loss` takes.
        batches: images and class ids [B]; those of `IGNORED` count nowhere.
        groups: group -> its class ids.
        loss: (answers, targets [B]) -> each image's loss [B].
        batch_size: images of a micro-batch; the result does not depend on it but for rounding.
        tolerance: relative change of the eigenvalue between two products at which it is taken.
        products: Hessian-vector products for an eigenvalue at most; each is a sum over all images.
        probes: random vectors for the traces.
        seed: of all random vectors.

    Returns:
        ``all`` and each group; one without an image is absent.
    """
    assert probes >= 1
    assert products >= 1
    with differentiable_twice(network):
        parts = _by_group(batches, groups)
        if not parts:
            return {}
        hessian = LossHessian(network, loss, batch_size, next(iter(parts.values())))
        traces = {name: hessian.trace_sums([part], probes, seed) for name, part in parts.items()}
        sums = {"all": torch.stack(list(traces.values())).sum(dim=0), **traces}
        whole: dict[str, list[ImageBatch]] = {"all": list(parts.values())}
        chosen = whole | {name: [parts[name]] for name in groups if name in parts}
        start = random_direction(hessian.size, hessian.device, seed, START)
        return {
            name: _summarise(
                largest_eigenvalue(partial(hessian.product, images), start, tolerance, products),
                sums[name],
                sum(len(part.targets) for part in images),
            )
            for name, images in chosen.items()
        }


def _by_group(
    batches: Iterable[tuple[Tensor, Tensor]], groups: Mapping[str, Sequence[int]]
) -> dict[str | None, ImageBatch]:
    """The images of each group, and under None those of classes in no group; nothing without an image."""
    kept: dict[str | None, list[ImageBatch]] = {}
    for images, targets in batches:
        rest = targets != IGNORED
        for name, classes in groups.items():
            members = torch.isin(targets, torch.tensor(list(classes), dtype=targets.dtype, device=targets.device))
            kept.setdefault(name, []).append(ImageBatch(images[members & rest], targets[members & rest]))
            rest = rest & ~members
        kept.setdefault(None, []).append(ImageBatch(images[rest], targets[rest]))
    parts = {name: ImageBatch(*map(torch.cat, zip(*found, strict=True))) for name, found in kept.items()}
    return {name: part for name, part in parts.items() if len(part.targets)}


def _summarise(eigenvalue: float, trace_sums: Tensor, images: int) -> Sharpness:
    """trace_sums: [probes], each probe's estimate for the images' summed loss."""
    traces = trace_sums / images
    error = float(traces.std(correction=min(1, len(traces) - 1))) / len(traces) ** 0.5
    return Sharpness(eigenvalue, float(traces.mean()), error, images)
