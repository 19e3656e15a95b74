"""Attention of a vision transformer: how far heads look (attention distance), and what reaches a token (rollout)."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from timm.models.vision_transformer import Attention
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from deitlt.errors import ConfigError
from deitlt.models import StudentNetwork, attention_weights, queries_and_keys, uncompiled

AttentionListener = Callable[[int, Tensor, Tensor], None]  # block, scaled queries, keys: [B, H, T, d] each
TokenListener = Callable[[int, Tensor], None]  # block, its output: [B, T, D]
FeatureListener = Callable[[Tensor], None]  # the heads' input, after the last norm: [B, T, D]

# Attention weights held at once: 4 MB on a CPU, which its caches hold; elsewhere 128 MB.
_WEIGHTS_AT_ONCE_CPU, _WEIGHTS_AT_ONCE = 2**20, 2**25


class AttentionDistance:
    """Mean attention distance of each block and head, for patches and for the tokens, summed image by image.

    *Patches*: the distance in pixels between the centres of the query's and the key's patch, weighted by attention,
    mean over query patches and images (Dosovitskiy et al., 2021, appendix D.7; Raghu et al., 2021, section 3).

    *Tokens* have no place. Their value is the mean distance between two patches drawn independently from the token's
    attention, ``sum_pq a_p a_q d(p, q)`` (ours; Rao's quadratic entropy, 1982): 0 where a token looks at one patch,
    and equal to the patches' value where attention is uniform.

    In both, attention to tokens is left out and the rest of a row is divided by its sum.

    Args:
        grid: rows and columns of patches.
        patch: height and width of a patch, in pixels.
        tokens: name -> its row in the sequence.
        prefix: rows before the first patch.
    """

    def __init__(self, grid: tuple[int, int], patch: tuple[int, int], tokens: dict[str, int], prefix: int) -> None:
        self.distances = patch_distances(grid, patch)
        self.tokens, self.prefix = tokens, prefix
        self.images: list[int] = []
        self.sums: list[dict[str, Tensor]] = []

    def update(self, block: int, queries: Tensor, keys: Tensor) -> None:
        """Add a block's attention on a batch; blocks come first to last.

        Args:
            block: its index.
            queries: [B, H, T, d], scaled.
            keys: [B, H, T, d].
        """
        self.distances = self.distances.to(queries.device)
        if block == len(self.sums):
            zeros = queries.new_zeros(queries.shape[1], dtype=torch.float64)
            self.sums.append(dict.fromkeys((*self.tokens, "patches"), zeros))
            self.images.append(0)
        at_once = _WEIGHTS_AT_ONCE_CPU if queries.device.type == "cpu" else _WEIGHTS_AT_ONCE
        size = max(1, at_once // (queries.shape[1] * len(self.distances) ** 2))
        for some, others in zip(torch.split(queries, size), torch.split(keys, size), strict=True):
            self._add(block, some, others[:, :, self.prefix :])
        self.images[block] += len(queries)

    def as_plain(self) -> dict[str, str | list[list[float]]]:
        """``unit``, and for ``patches`` and each token a list a block of the heads' means; empty before an image."""
        if not self.sums:
            return {}
        means = [
            {name: (total.cpu() / images).tolist() for name, total in sums.items()}
            for images, sums in zip(self.images, self.sums, strict=True)
        ]
        return {"unit": "pixels", **{name: [block[name] for block in means] for name in (*self.tokens, "patches")}}

    def _add(self, block: int, queries: Tensor, keys: Tensor) -> None:
        of_patches = attention_weights(queries[:, :, self.prefix :], keys)
        added = {"patches": _mean_distance(of_patches, self.distances)}
        for name, row in self.tokens.items():
            of_token = attention_weights(queries[:, :, row : row + 1], keys).squeeze(2)
            added[name] = _spread(of_token, self.distances)
        self.sums[block] = {name: total + added[name] for name, total in self.sums[block].items()}


def patch_distances(grid: tuple[int, int], patch: tuple[int, int]) -> Tensor:
    """Distances between the centres of patches, in pixels, patches row by row: [P, P].

    Args:
        grid: rows and columns of patches.
        patch: height and width of a patch, in pixels.
    """
    (rows, columns), (height, width) = grid, patch
    centres = torch.cartesian_prod(torch.arange(rows) * float(height), torch.arange(columns) * float(width))
    return torch.cdist(centres, centres, compute_mode="donot_use_mm_for_euclid_dist")  # by products, 0 is not 0


def _mean_distance(weights: Tensor, distances: Tensor) -> Tensor:
    """weights: [B, H, P, P] -> sum over images of the mean over query patches, [H], in float64."""
    images, heads, patches, _ = weights.shape
    # One product of a matrix and a vector: nothing of the weights' size is written again.
    per_image = weights.view(images * heads, patches**2) @ distances.flatten()
    return per_image.view(images, heads).double().sum(dim=0) / patches


def _spread(weights: Tensor, distances: Tensor) -> Tensor:
    """weights: [B, H, P] -> sum over images of the mean distance of two draws, [H], in float64."""
    return ((weights @ distances) * weights).sum(dim=-1).double().sum(dim=0)


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
    product: Tensor | None = None

    def multiply(_: int, queries: Tensor, keys: Tensor) -> None:
        nonlocal product
        attention = attention_weights(queries, keys).mean(dim=1)
        if product is None:
            product = torch.eye(attention.shape[-1], device=attention.device).expand_as(attention)
        product = (attention @ product + product) / 2  # a row of the mean with the identity sums to 1

    with evaluating(network), watched(network, on_attention=multiply):
        network(images.to(device_of(network)))
    assert product is not None, "no block was seen"
    patches, (grid, _) = product[:, :, network.vit.num_prefix_tokens :], patch_grid(network, images)
    shares = {name: patches[:, row] for name, row in token_rows(network).items()}
    return {name: (a / a.sum(dim=1, keepdim=True)).reshape(-1, *grid).cpu().clone() for name, a in shares.items()}


@contextmanager
def watched(
    network: StudentNetwork,
    on_attention: AttentionListener | None = None,
    on_tokens: TokenListener | None = None,
    on_features: FeatureListener | None = None,
) -> Iterator[None]:
    """Call the listeners during forward passes; the kernels, fused attention too, stay as they are.

    A network that is compiled in place does not see hooks: run it inside `evaluating`.

    Raises:
        ConfigError: if attention is to be watched in blocks that have none of timm's plain kind.
    """
    hooks: list[RemovableHandle] = []
    try:
        for index, block in enumerate(network.vit.blocks):
            if on_attention is not None:
                attention = _attention_of(block)
                hook = partial(_tell_attention, on_attention, index, attention)
                hooks.append(attention.qkv.register_forward_hook(hook))
            if on_tokens is not None:
                hooks.append(block.register_forward_hook(partial(_tell_tokens, on_tokens, index)))
        if on_features is not None:
            hooks.append(network.vit.norm.register_forward_hook(lambda _, __, features: on_features(features)))
        yield
    finally:
        for handle in hooks:
            handle.remove()


@contextmanager
def evaluation_mode(network: nn.Module) -> Iterator[None]:
    """Evaluation mode without compilation; afterwards each module is in the mode in which it was."""
    modes = {part: part.training for part in network.modules()}
    network.eval()
    try:
        with uncompiled():
            yield
    finally:
        for part, mode in modes.items():
            part.training = mode


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """`evaluation_mode` without gradients."""
    with evaluation_mode(network), torch.inference_mode():
        yield


def device_of(network: nn.Module) -> torch.device:
    """Where a network's weights are."""
    return next(network.parameters()).device


def token_rows(network: StudentNetwork) -> dict[str, int]:
    """Rows of ``cls`` and ``dist`` in the sequence; a token that the network lacks is absent.

    Some vision transformers pool the patches and have no class token.
    """
    named = network.tokens if network.vit.has_class_token else ()
    return {name: row for row, name in enumerate(named)}


def patch_grid(network: StudentNetwork, images: Tensor) -> tuple[tuple[int, int], tuple[int, int]]:
    """Rows and columns of patches of images [B, 3, H, W], and a patch's height and width in pixels."""
    height, width = network.patch_size
    return (images.shape[-2] // height, images.shape[-1] // width), (height, width)


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
    with torch.autocast(projected.device.type, enabled=False):  # sums need float32 where the network has less
        listener(block, *queries_and_keys(attention, projected.float()))


def _tell_tokens(listener: TokenListener, block: int, _: nn.Module, __: Any, tokens: Tensor) -> None:
    listener(block, tokens)
