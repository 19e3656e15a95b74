"""The Hessian of a network's loss with respect to its weights, by its products with vectors."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from deitlt.analysis.curvature import random_signs
from deitlt.models import uncompiled
from deitlt.types import ImageBatch

Loss = Callable[[Any, Tensor], Tensor]
PROBES = 1  # names the stream of the vectors that traces are estimated with


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
    modes = {module: module.training for module in network.modules()}
    device = next(network.parameters()).device.type
    with ExitStack() as stack:
        for context in (torch.inference_mode(False), torch.enable_grad(), uncompiled(), sdpa_kernel(SDPBackend.MATH)):
            stack.enter_context(context)
        stack.enter_context(torch.autocast(device, enabled=False))
        network.eval()
        try:
            yield
        finally:
            for module, mode in modes.items():
                module.training = mode
