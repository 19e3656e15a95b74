"""RandAugment's draws for a batch: which operation each sample gets in each layer, and how strong."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from timm.data.auto_augment import rand_augment_transform

from deitlt.errors import ConfigError

STEPS = 10.0  # of timm's scale of magnitudes: 10 is a level of 1
TRANSLATION = 0.45  # share of the side that a level of 1 translates by


class Operation(IntEnum):
    """What may happen to an image, sorted by how it is computed."""

    NONE = -1
    INVERT = 0  # from here on: a table of levels that the argument alone decides
    BRIGHTNESS = 1
    POSTERIZE = 2
    SOLARIZE = 3
    SOLARIZE_ADD = 4
    CONTRAST = 5  # from here on: a table that the image decides, too
    AUTO_CONTRAST = 6
    EQUALIZE = 7
    COLOR = 8  # blends with another image
    SHARPNESS = 9
    ROTATE = 10  # from here on: geometry; two moves folded into one go as a rotation
    SHEAR_X = 11  # along rows
    TRANSLATE_X = 12
    SHEAR_Y = 13  # along columns
    TRANSLATE_Y = 14


Floats = NDArray[np.float64]
Argument = Callable[[Floats, Floats], Floats]  # level from 0 on, sign -> the operation's argument


class Layer(NamedTuple):
    """One layer's draws: operations [B], of `Operation`, and their arguments [B]; 0 where there is none."""

    operations: NDArray[np.int64]
    arguments: Floats

    def part(self, chosen: slice) -> "Layer":
        """The draws of some of the samples."""
        return Layer(self.operations[chosen], self.arguments[chosen])


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
        where: the view's node in the configuration, for errors.
        description: timm's, with the parts m, n, p, mstd, mmax and inc.

    Raises:
        ConfigError: it is no description, or one whose operations only views per image have.
    """
    key = f"{where}.rand_augment"
    try:
        made = rand_augment_transform(description)
        assert made.num_layers > 0
    except (AssertionError, ValueError, AttributeError):
        raise ConfigError(
            f"{key}={description} is no RandAugment of timm's; type {key}=rand-m9-mstd0.5-inc1, or null for none."
        ) from None
    names = tuple(op.name for op in made.ops)
    if made.choice_weights is not None or (foreign := [name for name in names if name not in ARGUMENTS]):
        reason = "weights its operations" if made.choice_weights is not None else f"has {foreign[0]}"
        raise ConfigError(
            f"{key}={description} {reason}, which views on the device do not know; leave out its part t, "
            f"as in {key}=rand-m9-mstd0.5-inc1, or type student/views=paper, which makes views in workers."
        )
    op = made.ops[0]
    highest = float(op.magnitude_max or STEPS)
    return Policy(names, made.num_layers, op.prob, op.magnitude, op.magnitude_std, highest, description)
