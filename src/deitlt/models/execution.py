"""How a network is run: its layout in memory, its kernels, compiled or not. What it computes stays the same."""

from contextlib import AbstractContextManager
from typing import Any

import torch
from timm.models.vision_transformer import Attention
from torch import Tensor, nn

from deitlt.models.paco import PaCoNetwork


def entrances(network: nn.Module) -> list[nn.Module]:
    """The modules that images enter while training: PaCo's two CNNs, of any other network itself."""
    if isinstance(network, PaCoNetwork):
        return [network.encoder_q.backbone, network.encoder_k.backbone]
    return [network]


def keep_channels_last(network: nn.Module) -> None:
    """Keep a CNN's weights, and the images that enter it, with the channels of a pixel side by side in memory.

    That is the layout in which a GPU's matrix units work. Names, shapes and files of the weights stay the same.
    """
    network.to(memory_format=torch.channels_last)
    for entrance in entrances(network):
        entrance.register_forward_pre_hook(_channels_last)


def attend_by_products(network: nn.Module) -> None:
    """Have a transformer's attention computed as two matrix products with a softmax between, not by torch's one kernel.

    Faster in bfloat16 on a CPU, where the products use its matrix units and the kernel, backward above all, does not;
    it keeps attention of [B, heads, T, T] for the way back.

    Args:
        network: one that holds a timm transformer; any other stays as it is.
    """
    for module in network.modules():
        if isinstance(module, Attention):
            module.fused_attn = False  # type: ignore[misc]  # final for TorchScript alone


def compile_network(network: nn.Module, **options: Any) -> None:
    """Compile a network in place, at its first use; the names of its weights stay, and copies are not compiled.

    Each size of a batch gets a graph of its own, which is faster than one for all: a recipe has few.

    Args:
        network: any.
        **options: for `torch.compile`.
    """
    for entrance in entrances(network):
        entrance.compile(**{"dynamic": False, **options})


def uncompiled() -> AbstractContextManager[Any]:
    """Where compiled networks run as they are written: an evaluation's batches are not worth graphs of their own."""
    stance: AbstractContextManager[Any] = torch.compiler.set_stance("force_eager")
    return stance


@torch.compiler.disable  # type: ignore[untyped-decorator]  # outside of the graph: one copy is worth none of its own
def _channels_last(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    images, *others = inputs
    return (images.contiguous(memory_format=torch.channels_last), *others)
