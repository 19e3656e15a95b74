"""RandAugment on the device beside timm's: each operation at the same strength, and whole views of one picture."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from timm.data.auto_augment import LEVEL_TO_ARG, NAME_TO_OP

from deitlt.data.loading import isolated_rng
from deitlt.reports.sample_figures import ViewExample
from deitlt.transforms import BatchTransform, denormalise, student_transform
from deitlt.transforms.operations import Layer, Operation, draw_warps
from deitlt.transforms.randaugment import ARGUMENTS, STEPS, BatchRandAugment

Pixels = NDArray[Any]  # [H, W, 3]
WHOLE_NUMBERS = (Operation.POSTERIZE, Operation.SOLARIZE, Operation.SOLARIZE_ADD)
LOUDER = 8  # times a difference is shown


def operation_examples(view: BatchTransform, picture: Pixels, views: int = 5, seed: int = 0) -> list[ViewExample]:
    """timm's result, ours, and their difference for each operation; then whole views, each with its own draws.

    Args:
        view: one with RandAugment.
        picture: [H, W, 3] uint8.
        views: how many whole views of each kind.
        seed: of the whole views.
    """
    assert view.augment is not None, "nothing is augmented"
    side = (view.image_size, view.image_size)
    square = Image.fromarray(picture).resize(side, Image.Resampling.BICUBIC)
    return [*_operations(view.augment, square), *_whole_views(view, picture, views, seed)]


def _operations(augment: BatchRandAugment, square: Image.Image) -> list[ViewExample]:
    """All operations of the policy at its mean strength; every other one with the other sign."""
    names = augment.policy.names
    operations = np.array([int(ARGUMENTS[name][0]) for name in names])
    arguments = np.array([_argument(augment, name, i) for i, name in enumerate(names)])
    levels = torch.from_numpy(np.array(square)).permute(2, 0, 1).float().repeat(len(names), 1, 1, 1)
    augment(levels, draw_warps([Layer(operations, arguments)], (square.height, square.width)))
    ours = levels.permute(0, 2, 3, 1).byte().numpy()
    examples = []
    for name, operation, argument, device in zip(names, operations, arguments, ours, strict=True):
        theirs, words = _timms(augment, name, operation in WHOLE_NUMBERS, float(argument), square)
        apart = np.abs(device.astype(np.float32) - theirs) / 255 * LOUDER
        pictures = {"timm": theirs, "on the device": device, f"difference x {LOUDER}": apart}
        examples.append(ViewExample(pictures, words))
    return examples


def _argument(augment: BatchRandAugment, name: str, position: int) -> float:
    level = np.array([min(augment.policy.magnitude, augment.policy.highest) / STEPS])
    sign = np.array([(-1.0) ** position])
    return float(ARGUMENTS[name][1](level, sign)[0])


def _timms(
    augment: BatchRandAugment, name: str, is_whole: bool, argument: float, square: Image.Image
) -> tuple[Pixels, str]:
    """timm's result, and what it is called."""
    words: Sequence[float] = [int(argument) if is_whole else argument] if LEVEL_TO_ARG[name] else []
    mode = Image.Resampling[augment.interpolation.upper()]
    operation: Any = NAME_TO_OP[name]
    made = operation(square, *words, fillcolor=augment.fill, resample=mode)
    return np.asarray(made), " ".join((name, *(f"{word:.3g}" for word in words)))


def _whole_views(view: BatchTransform, picture: Pixels, views: int, seed: int) -> list[ViewExample]:
    """Views by timm and views on the device, which do not share their draws."""
    assert view.augment is not None
    alone = student_transform(
        view.image_size,
        view.normalisation,
        rand_augment=view.augment.policy.description,
        erasing=view.erasing,
        **vars(view.begin),
    )
    images = torch.from_numpy(picture.copy()).permute(2, 0, 1).repeat(views, 1, 1, 1)
    together = view(images, np.random.default_rng(seed))
    examples = []
    for i, ours in enumerate(together):
        with isolated_rng(seed, i):
            theirs = alone(Image.fromarray(picture))
        timm, device = (denormalise(x, view.normalisation).permute(1, 2, 0).numpy() for x in (theirs, ours))
        examples.append(ViewExample({"timm": timm, "on the device": device}, "whole views, with draws of their own"))
    return examples
