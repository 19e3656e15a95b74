"""Vision transformers in timm's names, as DeiT-LT's authors write their students: sizes read off the shapes."""

from math import isqrt
from pathlib import Path
from typing import Any

from deitlt.checkpoints.stored import StoredNetwork, Weights, count_blocks, shape_of
from deitlt.errors import CheckpointError

HEAD_WIDTH = 64  # of a token's vector for each attention head, in every DeiT and ViT
INNER = "vit."  # before timm's names in our student


def find_student(weights: Weights, average: Weights, heads: Any, path: Path) -> StoredNetwork | None:
    """The student that has these weights, or None if they are no vision transformer's.

    Args:
        weights: by timm's names.
        average: the moving average of them, or empty.
        heads: attention heads, which no shape tells, where the file says so; else one for 64 of width.
        path: of the file, for messages.

    Raises:
        CheckpointError: if its patches make no square image, or it has no classifier.
    """
    patches = shape_of(weights, "patch_embed.proj.weight", 4)
    positions = shape_of(weights, "pos_embed", 3)
    if patches is None or positions is None or "cls_token" not in weights:
        return None
    head = shape_of(weights, "head.weight", 2)
    if head is None:
        raise CheckpointError(f"{path} holds a transformer without a classifier; type the path of one that has it.")
    width, patch_size, distilled = patches[0], patches[3], "dist_token" in weights
    layer_scale = "blocks.0.ls1.gamma" in weights  # DeiT-III's, whose class token has no position
    grid = _grid(positions[1] - (0 if layer_scale else 1 + distilled), path)
    known = type(heads) is int and heads > 0 and width % heads == 0
    model = {
        "name": "deit3_base_patch16_224" if layer_scale else "deit_base_patch16_224",
        "image_size": grid * patch_size,
        "patch_size": patch_size,
        "distilled": distilled,
        "width": width,
        "depth": count_blocks(weights, "blocks"),
        "heads": heads if known else max(1, width // HEAD_WIDTH),
        "drop_path": 0.0,
    }
    average = {f"{INNER}{name}": value for name, value in average.items()}
    weights = {f"{INNER}{name}": value for name, value in weights.items()}
    return StoredNetwork(path, "create_student", head[0], model, weights, average or None, "vit")


def _grid(patches: int, path: Path) -> int:
    """Patches a side of a square image."""
    if patches < 1 or isqrt(patches) ** 2 != patches:
        raise CheckpointError(
            f"{path} holds a transformer for {patches} patches, which make no square image; type the path of another."
        )
    return isqrt(patches)
