"""Where a value stands on an axis, which values get a tick, and how they are written."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

_STEPS: Final = (1.0, 2.0, 2.5, 5.0, 10.0)
_TICKS: Final = 4
_LOG_FROM: Final = 50.0  # ratio of the largest to the smallest value from which an axis may be logarithmic


@dataclass(frozen=True)
class Scale:
    """An axis from `low` to `high` that is drawn from `start` to `stop`, in the picture's units."""

    low: float
    high: float
    start: float
    stop: float
    log: bool = False

    def place(self, value: float) -> float:
        """Where the value is drawn; what lies outside is drawn at the border."""
        low, high, value = (self._linear(v) for v in (self.low, self.high, value))
        share = (value - low) / (high - low) if high > low else 0.5
        return self.start + min(max(share, 0.0), 1.0) * (self.stop - self.start)

    def ticks(self, most: int = _TICKS) -> list[float]:
        """At most about so many round values inside."""
        if self.high == self.low:
            return [self.low]
        return _decades(self.low, self.high, most) if self.log else _round_values(self.low, self.high, most)

    def _linear(self, value: float) -> float:
        return math.log10(max(value, self.low)) if self.log else value


def scale_of(values: Iterable[float], start: float, stop: float, log: bool = False, zero: bool = True) -> Scale:
    """A scale that holds all values and ends at round ones.

    Args:
        values: at least one; what is not finite is left out.
        start: where the lowest is drawn.
        stop: where the highest is drawn.
        log: logarithmic, if the values are positive and span more than a factor of 50.
        zero: whether a linear scale of positive values begins at 0.
    """
    finite = [value for value in values if math.isfinite(value)] or [0.0]
    low, high = min(finite), max(finite)
    if log and low > 0 and high / low > _LOG_FROM:
        return Scale(10 ** math.floor(math.log10(low)), 10 ** math.ceil(math.log10(high)), start, stop, log=True)
    low = min(low, 0.0) if zero else low
    high = high if high > low else low + 1.0
    step = _step(low, high, _TICKS)
    return Scale(math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step, start, stop)


def number(value: float) -> str:
    """The value in three digits: 1,200, 86.1, 0.00025, 1e-6."""
    if value and abs(value) < 1e-4:
        mantissa, _, exponent = f"{value:.2g}".partition("e")
        return f"{mantissa}e{int(exponent)}"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _step(low: float, high: float, most: int) -> float:
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    return next(step * power for step in _STEPS if step * power >= rough * (1 - 1e-9))


def _round_values(low: float, high: float, most: int) -> list[float]:
    step = _step(low, high, most)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [i * step for i in range(first, last + 1)]


def _decades(low: float, high: float, most: int) -> list[float]:
    first, last = round(math.log10(low)), round(math.log10(high))
    every = max(1, math.ceil((last - first + 1) / most))
    return [10.0**power for power in range(first, last + 1, every)]
