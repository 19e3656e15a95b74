"""What a network costs: its parameters, and the operations of its matrix products and convolutions."""

from collections.abc import Callable

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode


def count_operations(work: Callable[[], object]) -> int:
    """Operations of the matrix products and convolutions in one call: a multiply-add counts as two.

    Attention counts as its two products, without what fused kernels compute twice to save memory.
    """
    with (
        torch.compiler.set_stance("force_eager"),
        sdpa_kernel(SDPBackend.MATH),
        FlopCounterMode(display=False) as counter,
    ):
        work()
    return int(counter.get_total_flops())


def count_parameters(network: nn.Module) -> int:
    """Numbers that training moves."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)


@torch.no_grad()
def count_macs(network: nn.Module, image_size: int) -> int:
    """Multiply-adds of the answer to one image of so many pixels a side, in evaluation."""
    image = torch.zeros(1, 3, image_size, image_size, device=next(network.parameters()).device)
    was_training = network.training
    network.eval()
    try:
        return count_operations(lambda: network(image)) // 2
    finally:
        network.train(was_training)
