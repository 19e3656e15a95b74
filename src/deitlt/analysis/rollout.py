"""Attention rollout: which patches reach a token through all blocks."""

import torch
from torch import Tensor

from deitlt.analysis.watching import device_of, evaluating, patch_grid, token_rows, watched
from deitlt.models import StudentNetwork, attention_weights


def attention_rollout(network: StudentNetwork, images: Tensor) -> dict[str, Tensor]:
    """How much of each patch reaches each token through the blocks, in a few images.

    Abnar and Zuidema, "Quantifying Attention Flow in Transformers", ACL 2020, equation 1: attention is averaged over
    heads, half of it and half of the identity (the skip connection) make a block, and the blocks are multiplied.
    What reaches a token from tokens is left out, and the rest divided by its sum.

    Args:
        network: a student.
        images: [B, 3, H, W], normalised, on any device; [B, T, T] for T tokens must fit in memory beside them.

    Returns:
        ``cls`` and ``dist``, as far as the student has them: [B, h, w], a value a patch, which sum to 1 in
        each image, on the CPU.

    Raises:
        ConfigError: if the blocks' attention cannot be watched.
    """
    flow = _Rollout()
    with evaluating(network), watched(network, on_attention=flow.multiply):
        network(images.to(device_of(network)))
    prefix, grid = network.vit.num_prefix_tokens, patch_grid(network, images)
    return {name: _on_patches(flow.rows(row), prefix, grid) for name, row in token_rows(network).items()}


class _Rollout:
    """The product of the blocks seen so far, [B, T, T]: the last block's stands first."""

    def __init__(self) -> None:
        self.product: Tensor | None = None

    def multiply(self, block: int, queries: Tensor, keys: Tensor) -> None:
        """Add a block: its index, scaled queries and keys [B, H, T, d]."""
        attention = attention_weights(queries, keys).mean(dim=1)
        if self.product is None:
            self.product = torch.eye(attention.shape[-1], device=attention.device).expand_as(attention)
        self.product = (attention @ self.product + self.product) / 2  # a row of the mean with the identity sums to 1

    def rows(self, row: int) -> Tensor:
        """What reaches one token: [B, T]."""
        assert self.product is not None, "no block was seen"
        return self.product[:, row]


def _on_patches(rows: Tensor, prefix: int, grid: tuple[int, int]) -> Tensor:
    """rows: [B, T] -> [B, h, w] without the tokens before the patches."""
    patches = rows[:, prefix:]
    return (patches / patches.sum(dim=1, keepdim=True)).reshape(-1, *grid).cpu().clone()
