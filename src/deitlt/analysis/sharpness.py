"""Sharpness: how much the loss curves around the weights, over all images and in head, mid and tail."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from deitlt.analysis.attention import evaluation_mode
from deitlt.types import IGNORED, ImageBatch, TokenLogits

Loss = Callable[[Any, Tensor], Tensor]
Product = Callable[[Tensor], Tensor]
START, PROBES = 0, 1  # keys of the generators of the search's first vector, and of the traces' random vectors
_EPSILON = 1e-7  # float32: a remainder of so small a share is rounding, and the space of products is exhausted


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


def truth_losses(logits: Tensor | TokenLogits, targets: Tensor) -> Tensor:
    """Each image's cross-entropy to its true class, [B]; of a student with two tokens the mean of both tokens'.

    Neither smoothed, weighted nor mixed, and not to the teacher's hard labels, so that networks compare that were
    trained with different losses.

    Args:
        logits: a teacher's [B, C], or a student's of each token.
        targets: [B] class ids.
    """
    tokens = [logits] if isinstance(logits, Tensor) else [token for token in logits if token is not None]
    losses = [F.cross_entropy(token.float(), targets, reduction="none") for token in tokens]
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


class LossHessian:
    """Products of the Hessian of a loss with vectors, summed over micro-batches.

    By differentiating twice (Pearlmutter, "Fast Exact Multiplication by the Hessian", 1994).

    Args:
        network: in evaluation mode; its weights are neither changed nor given gradients.
        loss: (answers, targets [B]) -> each image's loss [B].
        batch_size: images of a micro-batch.
        example: an image or more, to find out which weights the loss depends on.
    """

    def __init__(self, network: nn.Module, loss: Loss, batch_size: int, example: ImageBatch) -> None:
        self.network, self.loss, self.batch_size = network, loss, batch_size
        self.weights = {name: weight.detach().requires_grad_() for name, weight in network.named_parameters()}
        self.device = next(iter(self.weights.values())).device
        first = ImageBatch(*(values[:1] for values in example))
        found = torch.autograd.grad(self._loss(first), list(self.weights.values()), allow_unused=True)
        used = zip(list(self.weights), found, strict=True)
        self.weights = {name: self.weights[name] for name, gradient in used if gradient is not None}
        self.size = sum(weight.numel() for weight in self.weights.values())

    def product(self, images: Sequence[ImageBatch], vector: Tensor) -> Tensor:
        """vector: [n] -> the Hessian of the images' mean loss times it, [n]."""
        total = torch.zeros_like(vector)
        for batch in self._micro_batches(images):
            total += self._again(self._gradient(batch), vector)
        return total / sum(len(part.targets) for part in images)

    def trace_sums(self, images: Sequence[ImageBatch], probes: int, seed: int) -> Tensor:
        """``v . Hv`` of the images' summed loss for each of the random vectors, [probes] in float64."""
        sums = torch.zeros(probes, dtype=torch.float64)
        for batch in self._micro_batches(images):
            gradient = self._gradient(batch)
            for probe in range(probes):  # drawn again for each micro-batch, so that one is held at a time
                vector = random_signs(self.size, self.device, seed, PROBES, probe)
                sums[probe] += float(vector.dot(self._again(gradient, vector)))
        return sums

    def _gradient(self, batch: ImageBatch) -> Tensor:
        """The gradient of the summed loss, [n], which can be differentiated again."""
        gradients = torch.autograd.grad(self._loss(batch), list(self.weights.values()), create_graph=True)
        return torch.cat([gradient.flatten() for gradient in gradients])

    def _again(self, gradient: Tensor, vector: Tensor) -> Tensor:
        weights = list(self.weights.values())
        found = torch.autograd.grad(gradient, weights, vector, retain_graph=True, materialize_grads=True)
        return torch.cat([part.flatten() for part in found])

    def _loss(self, batch: ImageBatch) -> Tensor:
        answers = functional_call(self.network, self.weights, (batch.images.to(self.device),))
        return self.loss(answers, batch.targets.to(self.device)).sum()

    def _micro_batches(self, images: Sequence[ImageBatch]) -> Iterator[ImageBatch]:
        for part in images:
            for first in range(0, len(part.targets), self.batch_size):
                yield ImageBatch(*(values[first : first + self.batch_size] for values in part))


@contextmanager
def differentiable_twice(network: nn.Module) -> Iterator[None]:
    """Where the network answers as in evaluation and its answers can be differentiated twice.

    Neither compiled graphs nor torch's fused kernels of attention can.
    """
    device = next(network.parameters()).device.type
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        evaluation_mode(network),
        sdpa_kernel(SDPBackend.MATH),
        torch.autocast(device, enabled=False),
    ):
        yield


def largest_eigenvalue(product: Product, start: Tensor, tolerance: float, most: int) -> float:
    """The algebraically largest eigenvalue, by Lanczos' iteration.

    From a start v the power iteration has the last of v, Hv, H^2 v, ...; Lanczos (1950) takes the best estimate
    that their whole span holds, the largest eigenvalue of H's tridiagonal restriction to it (Golub and Van Loan,
    "Matrix Computations", section 10.1). So it needs fewer products, and gives the largest and not the largest in
    magnitude, which before a minimum may be negative. Two vectors are kept; without re-orthogonalisation
    eigenvalues come again, and the largest stays what it is (Paige, 1971).

    Args:
        product: v [n] -> Hv [n].
        start: [n], not zero.
        tolerance: relative change between two products at which it ends.
        most: products at most.

    Returns:
        An estimate from below; NaN where a product is not finite.
    """
    diagonal: list[float] = []
    beside: list[float] = []
    vector, before, estimate = start / start.norm(), torch.zeros_like(start), -math.inf
    for _ in range(most):
        image = product(vector)
        diagonal.append(float(image.dot(vector)))
        if not math.isfinite(diagonal[-1]):
            return math.nan
        image = image - diagonal[-1] * vector - (beside[-1] * before if beside else 0.0)
        last, estimate = estimate, _largest_of_tridiagonal(diagonal, beside)
        beside.append(float(image.norm()))
        if abs(estimate - last) <= tolerance * abs(estimate) or beside[-1] <= _EPSILON * max(map(abs, diagonal)):
            break
        vector, before = image / beside[-1], vector
    return estimate


def random_signs(size: int, device: torch.device, *key: int) -> Tensor:
    """[size] of -1 and 1 in equal numbers to be expected; they depend on `key` alone, not on the device."""
    signs = np.random.default_rng(key).integers(0, 2, size, dtype=np.int8)
    return torch.from_numpy(signs).to(device).float().mul_(2).sub_(1)


def random_direction(size: int, device: torch.device, *key: int) -> Tensor:
    """[size], each direction as likely as any other; it depends on `key` alone, not on the device."""
    return torch.from_numpy(np.random.default_rng(key).standard_normal(size, dtype=np.float32)).to(device)


def _largest_of_tridiagonal(diagonal: list[float], beside: list[float]) -> float:
    matrix = torch.diag(torch.tensor(diagonal, dtype=torch.float64))
    if beside:
        off = torch.diag(torch.tensor(beside[: len(diagonal) - 1], dtype=torch.float64), 1)
        matrix = matrix + off + off.T
    return float(torch.linalg.eigvalsh(matrix)[-1])
