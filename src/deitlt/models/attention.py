"""Attention maps of timm's blocks, computed again from queries and keys: fused attention keeps none."""

import torch
from timm.models.vision_transformer import Attention
from torch import Tensor


def queries_and_keys(attention: Attention, projected: Tensor) -> tuple[Tensor, Tensor]:
    """What an attention compares, in float32.

    Args:
        attention: with H heads of d features.
        projected: [B, T, 3 * H * d], what `attention.qkv` answered.

    Returns:
        queries, already scaled, and keys: [B, H, T, d] each.
    """
    batch, length, _ = projected.shape
    qkv = projected.reshape(batch, length, 3, attention.num_heads, attention.head_dim)
    queries, keys, _ = qkv.permute(2, 0, 3, 1, 4).unbind(0)
    return attention.q_norm(queries).float() * attention.scale, attention.k_norm(keys).float()


def attention_weights(queries: Tensor, keys: Tensor) -> Tensor:
    """queries: [B, H, Q, d], scaled, and keys: [B, H, K, d] -> weights: [B, H, Q, K], whose rows sum to 1.

    Over a part of the keys these are the whole rows' weights of that part, divided by their sum.
    """
    return torch.softmax(queries @ keys.transpose(-2, -1), dim=-1)
