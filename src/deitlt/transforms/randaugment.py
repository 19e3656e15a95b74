"""RandAugment of a whole batch on its device, each sample with operations of its own."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from deitlt.errors import ConfigError
from deitlt.transforms.batch_crops import Floats, moved
from deitlt.transforms.image import Interpolation, described_rand_augment
from deitlt.transforms.operations import (
    Layer,
    Moves,
    Operation,
    Warps,
    auto_contrast_tables,
    coloured,
    contrast_tables,
    draw_warps,
    equalize_tables,
    fixed_tables,
    look_up,
    moves,
    sharpened,
    slid,
    slide_tables,
    warped,
)

STEPS = 10.0  # of timm's scale of magnitudes: 10 is a level of 1
TRANSLATION = 0.45  # share of the side that a level of 1 translates by


Argument = Callable[[Floats, Floats], Floats]  # level from 0 on, sign -> the operation's argument


def _nothing(level: Floats, sign: Floats) -> Floats:
    return np.zeros_like(level)


def _enhanced(level: Floats, sign: Floats) -> Floats:
    return level * 1.8 + 0.1


def _enhanced_increasing(level: Floats, sign: Floats) -> Floats:
    return np.maximum(0.1, 1 + sign * (level * 0.9))


def _bits(level: Floats, sign: Floats) -> Floats:
    return np.floor(level * 4)


def _threshold(level: Floats, sign: Floats) -> Floats:
    return np.minimum(256, np.floor(level * 256))


# timm's name -> what it is here, and its argument: a factor, bits to keep, a threshold, a summand, degrees, a slope,
# or a share of the side.
ARGUMENTS: Mapping[str, tuple[Operation, Argument]] = {
    "AutoContrast": (Operation.AUTO_CONTRAST, _nothing),
    "Equalize": (Operation.EQUALIZE, _nothing),
    "Invert": (Operation.INVERT, _nothing),
    "Rotate": (Operation.ROTATE, lambda level, sign: sign * level * 30),
    "Posterize": (Operation.POSTERIZE, _bits),
    "PosterizeIncreasing": (Operation.POSTERIZE, lambda level, sign: 4 - _bits(level, sign)),
    "Solarize": (Operation.SOLARIZE, _threshold),
    "SolarizeIncreasing": (Operation.SOLARIZE, lambda level, sign: 256 - _threshold(level, sign)),
    "SolarizeAdd": (Operation.SOLARIZE_ADD, lambda level, sign: np.minimum(128, np.floor(level * 110))),
    "Color": (Operation.COLOR, _enhanced),
    "ColorIncreasing": (Operation.COLOR, _enhanced_increasing),
    "Contrast": (Operation.CONTRAST, _enhanced),
    "ContrastIncreasing": (Operation.CONTRAST, _enhanced_increasing),
    "Brightness": (Operation.BRIGHTNESS, _enhanced),
    "BrightnessIncreasing": (Operation.BRIGHTNESS, _enhanced_increasing),
    "Sharpness": (Operation.SHARPNESS, _enhanced),
    "SharpnessIncreasing": (Operation.SHARPNESS, _enhanced_increasing),
    "ShearX": (Operation.SHEAR_X, lambda level, sign: sign * level * 0.3),
    "ShearY": (Operation.SHEAR_Y, lambda level, sign: sign * level * 0.3),
    "TranslateXRel": (Operation.TRANSLATE_X, lambda level, sign: sign * level * TRANSLATION),
    "TranslateYRel": (Operation.TRANSLATE_Y, lambda level, sign: sign * level * TRANSLATION),
}


@dataclass(frozen=True)
class Policy:
    """RandAugment (Cubuk et al., 2020) with timm's noise on the magnitude.

    Args:
        names: timm's names of the operations, drawn with replacement.
        layers: operations one after the other.
        probability: probability that a layer's operation is applied.
        magnitude: mean strength, on a scale to 10.
        deviation: standard deviation of the strength; infinite draws it evenly from 0 to `magnitude`.
        highest: largest strength; those beyond count as it.
        description: timm's, of all of this.
    """

    names: tuple[str, ...]
    layers: int
    probability: float
    magnitude: float
    deviation: float
    highest: float
    description: str

    def draw(self, batch: int, rng: np.random.Generator) -> list[Layer]:
        """Draw for each sample by itself: one `Layer` of B draws for each of the policy's layers."""
        shape = (self.layers, batch)
        chosen = rng.integers(len(self.names), size=shape)
        chosen = np.where(rng.random(shape) < self.probability, chosen, -1)
        levels = np.clip(self._strengths(shape, rng), 0, self.highest) / STEPS
        signs = np.where(rng.random(shape) < 0.5, -1.0, 1.0)
        operations = np.full(shape, int(Operation.NONE))
        arguments = np.zeros(shape)
        for number, name in enumerate(self.names):
            operation, argument = ARGUMENTS[name]
            is_chosen = chosen == number
            operations[is_chosen] = operation
            arguments[is_chosen] = argument(levels[is_chosen], signs[is_chosen])
        return [Layer(*draws) for draws in zip(operations, arguments, strict=True)]

    def _strengths(self, shape: tuple[int, int], rng: np.random.Generator) -> Floats:
        if math.isinf(self.deviation):
            return rng.uniform(0, self.magnitude, size=shape)
        return rng.normal(self.magnitude, self.deviation, size=shape)


def parse_policy(where: str, description: str) -> Policy:
    """What timm makes of a description such as 'rand-m9-mstd0.5-inc1'.

    Args:
        where: the transform's node in the configuration, for errors.
        description: timm's, with the parts m, n, p, mstd, mmax and inc.

    Raises:
        ConfigError: it is no description, or one whose operations only transforms of single images have.
    """
    key = f"{where}.rand_augment"
    made = described_rand_augment(where, description)
    names = tuple(op.name for op in made.ops)
    if made.choice_weights is not None or (foreign := [name for name in names if name not in ARGUMENTS]):
        reason = "weights its operations" if made.choice_weights is not None else f"has {foreign[0]}"
        raise ConfigError(
            f"{key}={description} {reason}, which batch transforms do not know; leave out its part t, "
            f"as in {key}=rand-m9-mstd0.5-inc1, or type student/transforms=paper, which transforms in workers."
        )
    op = made.ops[0]
    highest = float(op.magnitude_max or STEPS)
    return Policy(names, made.num_layers, op.prob, op.magnitude, op.magnitude_std, highest, description)


class _Sorted(NamedTuple):
    """A layer on its device: the samples that it touches, sorted by operation, and their arguments.

    samples, arguments: [N]. tables: [T, 256] of those that come first. moves: of rotations. rows, columns: tables of
    those that slide along rows, and along columns.
    starts: where each operation begins, and N; on the host, so that nobody waits for the device.
    """

    samples: Tensor
    arguments: Tensor
    tables: Tensor
    moves: Moves
    rows: Tensor
    columns: Tensor
    starts: list[int]

    def span(self, first: Operation, last: Operation) -> slice:
        """Where the samples of the operations from `first` to `last` stand."""
        return slice(self.starts[first], self.starts[last + 1])


@dataclass(frozen=True)
class BatchRandAugment:
    """RandAugment with draws for each sample, for levels from 0 to 255.

    Args:
        policy: what is drawn.
        fill: a level for each channel, of what moves in from outside.
        interpolation: 'bicubic' or 'bilinear', of the geometric operations.
    """

    policy: Policy
    fill: tuple[int, int, int]
    interpolation: Interpolation = "bicubic"

    def draw(self, batch: int, size: tuple[int, int], rng: np.random.Generator) -> list[tuple[Layer, Warps]]:
        """Each layer's draws for a batch of images of a height and a width, from `rng`."""
        return draw_warps(self.policy.draw(batch, rng), size)

    def __call__(self, images: Tensor, layers: Sequence[tuple[Layer, Warps]]) -> Tensor:
        """images: [B, 3, H, W] float32, whole levels; changed in place by what was drawn, and returned."""
        fill = moved(np.array(self.fill, np.float32), images.device).view(3, 1, 1)
        for layer, warps in layers:
            self._apply(images, layer, warps, fill)
        return images

    def _apply(self, images: Tensor, layer: Layer, warps: Warps, fill: Tensor) -> None:
        """One layer, in place; only the samples that it touches are read and written."""
        here = _sorted(layer, warps, images, self.interpolation)
        self._through_tables(images, here)
        changes: list[tuple[Operation, Operation, Callable[[Tensor, Tensor], Tensor]]] = [
            (Operation.COLOR, Operation.COLOR, coloured),
            (Operation.SHARPNESS, Operation.SHARPNESS, sharpened),
            (Operation.ROTATE, Operation.ROTATE, lambda x, _: warped(x, here.moves, fill, self.interpolation)),
            (Operation.SHEAR_X, Operation.TRANSLATE_Y, lambda x, _: slid(x, here.rows, here.columns, fill)),
        ]
        for first, last, change in changes:
            span = here.span(first, last)
            if (samples := here.samples[span]).numel():
                images.index_copy_(0, samples, change(images.index_select(0, samples), here.arguments[span]))

    def _through_tables(self, images: Tensor, here: _Sorted) -> None:
        """The operations that replace each level by another one, whatever is around it."""
        samples = here.samples[here.span(Operation.INVERT, Operation.EQUALIZE)]
        if not samples.numel():
            return
        parts = images.index_select(0, samples)
        indices = parts.flatten(2).long()
        contrast, auto, equal = (
            here.span(o, o) for o in (Operation.CONTRAST, Operation.AUTO_CONTRAST, Operation.EQUALIZE)
        )
        tables = [here.tables.unsqueeze(1).expand(-1, 3, -1)]
        if contrast.stop > contrast.start:
            tables.append(contrast_tables(parts[contrast], here.arguments[contrast]))
        if auto.stop > auto.start:
            tables.append(auto_contrast_tables(parts[auto]))
        if equal.stop > equal.start:
            tables.append(equalize_tables(parts[equal], indices[equal]))
        images.index_copy_(0, samples, look_up(torch.cat(tables), indices, parts.shape))


def _sorted(layer: Layer, warps: Warps, images: Tensor, interpolation: Interpolation) -> _Sorted:
    device, (height, width) = images.device, images.shape[-2:]
    order = np.argsort(layer.operations, kind="stable")
    order = order[np.searchsorted(layer.operations[order], 0) :]  # from here on they are touched
    operations, arguments = layer.operations[order], layer.arguments[order]
    starts: list[int] = np.searchsorted(operations, np.arange(len(Operation))).tolist()
    tables, across, down = (starts[o] for o in (Operation.CONTRAST, Operation.SHEAR_X, Operation.SHEAR_Y))
    rows = slide_tables(operations[across:down], arguments[across:down], width, height, interpolation)
    columns = slide_tables(operations[down:], arguments[down:], height, width, interpolation)
    return _Sorted(
        moved(order, device),
        moved(arguments.astype(np.float32), device),
        moved(fixed_tables(operations[:tables], arguments[:tables]), device),
        moves(warps, order[starts[Operation.ROTATE] : across], device),
        moved(rows, device),
        moved(columns, device),
        starts,
    )
