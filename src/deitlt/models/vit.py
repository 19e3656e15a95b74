"""The student: a timm vision transformer that returns the logits of each token, and its attention."""

from typing import cast

import torch
from timm.models.deit import VisionTransformerDistilled
from timm.models.vision_transformer import Attention, VisionTransformer
from torch import Tensor, nn

from deitlt.types import TokenLogits


class StudentNetwork(nn.Module):
    """A timm transformer whose forward returns `TokenLogits`, in training and in evaluation.

    timm's distilled models return the mean of both heads in evaluation; here the two experts stay apart.

    Args:
        vit: timm's model; one with a distillation token has two heads.
    """

    def __init__(self, vit: VisionTransformer) -> None:
        super().__init__()
        self.vit = vit
        self.tokens = ("cls", "dist") if isinstance(vit, VisionTransformerDistilled) else ("cls",)

    def forward(self, images: Tensor) -> TokenLogits:
        """images: [B, 3, H, W] -> logits [B, C] of each token."""
        features = self.vit.forward_features(images)
        if "dist" not in self.tokens:
            return TokenLogits(self.vit.forward_head(features), None)
        drop = self.vit.head_drop
        head_dist = cast(nn.Module, self.vit.head_dist)
        return TokenLogits(self.vit.head(drop(features[:, 0])), head_dist(drop(features[:, 1])))

    def forward_with_attention(self, images: Tensor) -> tuple[TokenLogits, Tensor]:
        """images: [B, 3, H, W] -> logits [B, C] of each token, and the class token's attention in the last block.

        The attention is [B, P] over the P patches, the mean over the heads; rows sum to 1, without gradient.
        """
        attention = cast(Attention, self.vit.blocks[-1].attn)
        seen: list[Tensor] = []
        hook = attention.qkv.register_forward_hook(lambda _, __, projected: seen.append(projected.detach()))
        try:
            logits = self.forward(images)  # forward: a compiled network would skip the hook
        finally:
            hook.remove()
        return logits, _class_attention(attention, seen[0], first_patch=len(self.tokens))

    def get_classifier(self) -> nn.Module | tuple[nn.Module, nn.Module]:
        """The head, or those of the class and the distillation token, as timm calls them."""
        return cast(nn.Module | tuple[nn.Module, nn.Module], self.vit.get_classifier())

    def no_weight_decay(self) -> set[str]:
        """Names of the tokens and position embeddings, which get no weight decay."""
        return {f"vit.{name}" for name in self.vit.no_weight_decay()}


@torch.no_grad()
def _class_attention(attention: Attention, projected: Tensor, first_patch: int) -> Tensor:
    """projected: [B, T, 3 * D], the output of `attention.qkv` -> the class token's attention to patches: [B, P]."""
    queries, keys = queries_and_keys(attention, projected)
    weights = attention_weights(queries[:, :, :1], keys[:, :, first_patch:])
    return weights.mean(dim=1).squeeze(1)


def queries_and_keys(attention: Attention, projected: Tensor) -> tuple[Tensor, Tensor]:
    """Queries, already scaled, and keys of timm's attention, [B, H, T, d] each, in float32.

    Args:
        attention: with H heads of d features.
        projected: [B, T, 3 * H * d], the output of `attention.qkv`.
    """
    batch, length, _ = projected.shape
    qkv = projected.reshape(batch, length, 3, attention.num_heads, attention.head_dim)
    queries, keys, _ = qkv.permute(2, 0, 3, 1, 4).unbind(0)
    return attention.q_norm(queries).float() * attention.scale, attention.k_norm(keys).float()


def attention_weights(queries: Tensor, keys: Tensor) -> Tensor:
    """queries: [B, H, Q, d], scaled, and keys: [B, H, K, d] -> weights: [B, H, Q, K], whose rows sum to 1.

    Over some of the keys these are the full weights of those keys, divided by their sum.
    """
    return torch.softmax(queries @ keys.transpose(-2, -1), dim=-1)


def attend_by_products(network: nn.Module) -> None:
    """Compute a transformer's attention as two matrix products and a softmax instead of torch's fused kernel.

    Faster in bfloat16 on a CPU, where the products use its matrix units and the fused backward does not; keeps
    [B, heads, T, T] for the backward pass. Networks without timm's attention stay as they are.
    """
    for module in network.modules():
        if isinstance(module, Attention):
            module.fused_attn = False  # type: ignore[misc]  # final for TorchScript alone
