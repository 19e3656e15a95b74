"""SAM's radius rho as a function of the epoch (0-based).

Foret et al., "Sharpness-Aware Minimization for Efficiently Improving Generalization", ICLR 2021; the
schedules are those of Rangwani et al., "Escaping Saddle Points for Effective Generalization on
Class-Imbalanced Data", NeurIPS 2022.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from deitlt.errors import ConfigError

RhoSchedule = Callable[[int], float]


def _refuse_negative(**values: float) -> None:
    for name, value in values.items():
        if not value >= 0:
            raise ConfigError(f"SAM's rho cannot be negative: {name}={value} must be 0 or more, such as 0.05")


@dataclass(frozen=True)
class ConstantRho:
    """The same rho in every epoch.

    Raises:
        ConfigError: a negative rho.
    """

    value: float

    def __post_init__(self) -> None:
        _refuse_negative(value=self.value)

    def __call__(self, epoch: int) -> float:
        """Rho of an epoch."""
        return self.value


@dataclass(frozen=True)
class StepRho:
    """Rho that changes at given epochs.

    Args:
        values: the first epoch of each step -> its rho, such as ``{0: 0.05, 5: 0.1, 60: 0.5}``, or pairs of
            them, which a configuration can replace as a whole.

    Raises:
        ConfigError: a negative rho, or none for epoch 0.
    """

    values: Mapping[int, float] | Sequence[tuple[int, float]]

    def __post_init__(self) -> None:
        values = dict(self.values)
        if 0 not in values:
            raise ConfigError(f"values={values} gives no rho for epoch 0: type values={ {0: 0.05, **values} }")
        _refuse_negative(**{f"values[{epoch}]": rho for epoch, rho in values.items()})

    def __call__(self, epoch: int) -> float:
        """Rho of an epoch: that of the latest step that has begun."""
        values = dict(self.values)
        return values[max(start for start in values if start <= epoch)]


@dataclass(frozen=True)
class LinearRho:
    """Rho on a straight line from the first epoch to the last.

    Args:
        start: rho of epoch 0.
        end: rho of epoch ``epochs - 1``, and after it.
        epochs: how many epochs the line takes; with one, rho is ``start``.

    Raises:
        ConfigError: a negative rho, or no epoch.
    """

    start: float
    end: float
    epochs: int

    def __post_init__(self) -> None:
        _refuse_negative(start=self.start, end=self.end)
        if self.epochs < 1:
            raise ConfigError(f"epochs={self.epochs} must be 1 or more: type epochs=200")

    def __call__(self, epoch: int) -> float:
        """Rho of an epoch."""
        last = max(self.epochs - 1, 1)
        return self.start + (self.end - self.start) * min(epoch, last) / last
