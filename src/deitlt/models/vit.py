"""The student: a timm vision transformer that returns the logits of each token, and its attention."""

import itertools
from collections.abc import Callable
from typing import Any, cast

import torch
from timm.layers import HybridEmbed
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

    @property
    def has_conv_stem(self) -> bool:
        """Whether convolutions make the tokens, and not patches cut from the image."""
        return isinstance(self.vit.patch_embed, HybridEmbed)

    @property
    def patch_size(self) -> tuple[int, int]:
        """Height and width in pixels of what one token stands for, behind a stem of convolutions, too."""
        return cast(tuple[int, int], self.vit.patch_embed.feat_ratio(as_scalar=False))

    def no_weight_decay(self) -> set[str]:
        """Names of the tokens and position embeddings, which get no weight decay."""
        return {f"vit.{name}" for name in self.vit.no_weight_decay()}


class ConvStem(nn.Sequential):
    """3x3 convolutions in front of a transformer: images [B, 3, H, W] -> a map [B, width, H / patch, W / patch].

    It lends the transformer a CNN's locality, which on few images is worth more than patches cut from the image
    (Hassani et al., 2021, "Escaping the big data paradigm with compact transformers", section 3.3; Xiao et al.,
    NeurIPS 2021). Each of its stages is a convolution, ReLU and a maximum over 3x3 pixels, halves the sides and doubles
    the channels.

    Args:
        width: channels of the last stage, the length of a token.
        patch_size: pixels a side of a token; a power of two, 2 or more.
    """

    def __init__(self, width: int, patch_size: int) -> None:
        stages = patch_size.bit_length() - 1
        channels = [3, *(width >> (stages - 1 - stage) for stage in range(stages))]
        layers: list[nn.Module] = []
        for ins, outs in itertools.pairwise(channels):
            convolution = nn.Conv2d(ins, outs, 3, padding=1, bias=False)
            nn.init.kaiming_normal_(convolution.weight)
            layers += [convolution, nn.ReLU(inplace=True), nn.MaxPool2d(3, stride=2, padding=1)]
        super().__init__(*layers)


def conv_embedding(patch_size: int) -> Callable[..., HybridEmbed]:
    """timm's `embed_layer` that looks at images through a `ConvStem`; for timm a patch is then one of its pixels."""

    def embed(*, embed_dim: int, **options: Any) -> HybridEmbed:
        return HybridEmbed(ConvStem(embed_dim, patch_size), embed_dim=embed_dim, proj=False, **options)

    return embed


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
