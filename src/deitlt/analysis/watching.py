"""Looking into a network while it answers: its blocks' attention and tokens, one block of one batch at a time."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

import torch
from timm.models.vision_transformer import Attention
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from deitlt.errors import ConfigError
from deitlt.models import StudentNetwork, queries_and_keys, uncompiled
from deitlt.types import IGNORED

AttentionListener = Callable[[int, Tensor, Tensor], None]  # block, scaled queries, keys: [B, H, T, d] each
TokenListener = Callable[[int, Tensor], None]  # block, what leaves it: [B, T, D]
FeatureListener = Callable[[Tensor], None]  # what the heads read, after the last norm: [B, T, D]


@contextmanager
def watched(
    network: StudentNetwork,
    on_attention: AttentionListener | None = None,
    on_tokens: TokenListener | None = None,
    on_features: FeatureListener | None = None,
) -> Iterator[None]:
    """Call the listeners while the network answers; its kernels, fused attention too, stay as they are.

    A network that is compiled in place does not see hooks: run it inside `evaluating`.

    Raises:
        ConfigError: if attention is to be watched in blocks that have none of timm's plain kind.
    """
    hooks: list[RemovableHandle] = []
    try:
        for index, block in enumerate(network.vit.blocks):
            if on_attention is not None:
                attention = _attention_of(block)
                tell = partial(_tell_attention, on_attention, index, attention)
                hooks.append(attention.qkv.register_forward_hook(tell))
            if on_tokens is not None:
                hooks.append(block.register_forward_hook(partial(_tell_tokens, on_tokens, index)))
        if on_features is not None:
            hooks.append(network.vit.norm.register_forward_hook(lambda _, __, features: on_features(features)))
        yield
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Without gradient, dropout and compilation; afterwards each part is in the mode in which it was."""
    modes = {part: part.training for part in network.modules()}
    network.eval()
    try:
        with torch.inference_mode(), uncompiled():
            yield
    finally:
        for part, mode in modes.items():
            part.training = mode


def counted_batches(batches: Iterable[tuple[Tensor, Tensor]], device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    """Images [B, 3, H, W] and labels [B] on a device, without the images whose label is `IGNORED`."""
    for images, labels in batches:
        kept = labels != IGNORED
        if not kept.all():
            images, labels = images[kept.to(images.device)], labels[kept]
        if len(labels):
            yield images.to(device, non_blocking=True), labels.to(device, non_blocking=True)


def device_of(network: nn.Module) -> torch.device:
    """Where a network's weights are."""
    return next(network.parameters()).device


def token_rows(network: StudentNetwork) -> dict[str, int]:
    """Where ``cls`` and ``dist`` stand among a student's tokens; one that it lacks is absent.

    Some vision transformers pool the patches and have no class token.
    """
    named = network.tokens if network.vit.has_class_token else ()
    return {name: row for row, name in enumerate(named)}


def patch_grid(network: StudentNetwork, images: Tensor) -> tuple[int, int]:
    """Rows and columns of patches of images [B, 3, H, W]."""
    height, width = patch_sides(network)
    return images.shape[-2] // height, images.shape[-1] // width


def patch_sides(network: StudentNetwork) -> tuple[int, int]:
    """Height and width of a patch, in pixels."""
    height, width = cast(tuple[int, int], network.vit.patch_embed.patch_size)
    return height, width


def _attention_of(block: nn.Module) -> Attention:
    attention = getattr(block, "attn", None)
    if not isinstance(attention, Attention):
        raise ConfigError(
            f"The student's blocks are {type(block).__name__}s, whose attention cannot be watched; "
            "leave attention and rollout out of the parts, such as [rank,diversity,winners]."
        )
    return attention


def _tell_attention(
    listener: AttentionListener, block: int, attention: Attention, _: nn.Module, __: Any, projected: Tensor
) -> None:
    with torch.autocast(projected.device.type, enabled=False):  # sums are worth float32 where the network is not
        listener(block, *queries_and_keys(attention, projected.float()))


def _tell_tokens(listener: TokenListener, block: int, _: nn.Module, __: Any, tokens: Tensor) -> None:
    listener(block, tokens)
