"""Vision transformers from timm as students that return the logits of each token."""

from typing import Any, cast

import timm
import torch
from timm.models import is_model_in_modules
from timm.models.deit import VisionTransformerDistilled
from timm.models.vision_transformer import Attention, VisionTransformer
from torch import Tensor, nn

from deitlt.errors import ConfigError, nearest
from deitlt.models.attention import attention_weights, queries_and_keys
from deitlt.types import TokenLogits

_MODULES = ("vision_transformer", "deit")  # timm's, whose models take all of our sizes
_ALL_NAMES = "type deitlt list models 'vit_*', say, to see timm's."


class StudentNetwork(nn.Module):
    """A timm transformer whose forward returns `TokenLogits`, in training and in evaluation.

    timm's distilled models return the mean of both heads in evaluation, where the two experts are
    wanted apart.

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
        """images: [B, 3, H, W] -> logits, and what the class token attends to in the last block.

        Returns:
            logits [B, C] of each token; attention [B, P] to the P patches, mean over the heads, rows sum to
            1, without gradient.
        """
        attention = cast(Attention, self.vit.blocks[-1].attn)
        seen: list[Tensor] = []
        hook = attention.qkv.register_forward_hook(lambda _, __, projected: seen.append(projected.detach()))
        try:
            logits = self.forward(images)  # a compiled network would not notice the hook
        finally:
            hook.remove()
        return logits, _class_attention(attention, seen[0], first_patch=len(self.tokens))

    def no_weight_decay(self) -> set[str]:
        """Names of the tokens and position embeddings, which weight decay leaves alone."""
        return {f"vit.{name}" for name in self.vit.no_weight_decay()}


@torch.no_grad()
def _class_attention(attention: Attention, projected: Tensor, first_patch: int) -> Tensor:
    """projected: [B, T, 3 * D], what `attention.qkv` answered -> the class token's attention to patches: [B, P]."""
    queries, keys = queries_and_keys(attention, projected)
    weights = attention_weights(queries[:, :, :1], keys[:, :, first_patch:])
    return weights.mean(dim=1).squeeze(1)


def create_student(
    num_classes: int,
    name: str = "deit_base_patch16_224",
    image_size: int = 224,
    patch_size: int = 16,
    distilled: bool = True,
    width: int | None = None,
    depth: int | None = None,
    heads: int | None = None,
    drop_path: float = 0.1,
    checkpointing: bool = False,
) -> StudentNetwork:
    """A vision transformer with fresh weights.

    Args:
        num_classes: classes C.
        name: timm's name of a vision transformer; its `_distilled` sister is taken if `distilled`.
        image_size: pixels a side.
        patch_size: pixels a side of a patch; must divide `image_size`.
        distilled: with a distillation token (DeiT) or without (ViT).
        width: length of a token's vector; None keeps the named model's.
        depth: number of blocks; None keeps the named model's.
        heads: attention heads; None takes the named model's, or one for 64 of `width`.
        drop_path: probability of dropping a block, rising linearly to this in the last one.
        checkpointing: keep only what enters each block, and compute the rest again on the way back: less
            memory for more time, the same gradients (Chen et al., 2016).

    Raises:
        ConfigError: if the model is unknown or no vision transformer, or the sizes do not fit.
    """
    if heads is None and width is not None:
        heads = max(1, width // 64)
    check_sizes(image_size, patch_size, width, heads)
    if depth is not None and depth < 1:
        raise ConfigError(f"student.model.depth={depth} is no number of blocks; type 1 or more.")
    if not 0 <= drop_path < 1:
        raise ConfigError(f"student.model.drop_path={drop_path} is no probability below 1; type 0.1, or 0 for none.")
    sizes: dict[str, Any] = {"embed_dim": width, "depth": depth, "num_heads": heads}
    try:
        vit = timm.create_model(
            _timm_name(name, distilled),
            pretrained=False,
            num_classes=num_classes,
            img_size=image_size,
            patch_size=patch_size,
            drop_path_rate=drop_path,
            dynamic_img_size=True,  # local crops are smaller: their position embedding is resampled
            **{key: value for key, value in sizes.items() if value is not None},
        )
    except AssertionError as error:  # only the named model knows its own width
        if "num_heads" not in str(error):
            raise
        raise ConfigError(
            f"student.model.heads={heads} does not divide the width of {name}; "
            "type student.model.heads=null, which takes the model's own."
        ) from error
    network = StudentNetwork(cast(VisionTransformer, vit))
    network.vit.set_grad_checkpointing(checkpointing)
    return network


def check_sizes(image_size: int, patch_size: int, width: int | None = None, heads: int | None = None) -> None:
    """Raise ConfigError where patches do not tile the image or heads do not divide the width."""
    if patch_size < 1 or image_size % patch_size:
        raise ConfigError(
            f"student.model.patch_size={patch_size} does not divide the image of {image_size} pixels and "
            f"would drop some; type one of {_divisors(image_size)}."
        )
    if width is not None and heads is not None and width % heads:
        raise ConfigError(
            f"student.model.heads={heads} does not divide student.model.width={width}; type one of {_divisors(width)}."
        )


def check_local_size(local_size: int, patch_size: int) -> None:
    """Raise ConfigError where patches do not tile a local crop."""
    if local_size % patch_size:
        raise ConfigError(
            f"student.views.train.local_size={local_size} cannot be cut into patches of {patch_size} pixels; "
            f"type student.views.train.local_size={max(1, local_size // patch_size) * patch_size}."
        )


def _divisors(number: int) -> str:
    return ", ".join(str(n) for n in range(1, number + 1) if number % n == 0)


def _timm_name(name: str, distilled: bool) -> str:
    plain = name.replace("_distilled", "", 1)
    chosen = plain.replace("_patch", "_distilled_patch", 1) if distilled else plain
    if is_model_in_modules(chosen, _MODULES) and ("_distilled" in chosen) == distilled:
        return chosen
    known = timm.list_models("*_distilled_patch*" if distilled else ["vit_*", "deit*_patch*"], module=_MODULES)
    with_token = " with a distillation token" if distilled else ""
    raise ConfigError(
        f"student.model.name={name} is no vision transformer{with_token} in timm; "
        f"{nearest(name, (known_name.replace('_distilled', '') for known_name in known), _ALL_NAMES)}"
    )
