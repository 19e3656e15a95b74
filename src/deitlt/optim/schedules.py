"""Learning-rate schedules as pure functions of time in epochs, and the time at which a micro-batch reads them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from deitlt.errors import ConfigError


def schedule_time(epoch: int, batch_idx: int, batches: int, accumulate: int = 1) -> float:
    """The time, in epochs, at which a micro-batch reads the learning-rate schedule.

    The rate changes at the first micro-batch of each accumulation window, and again at the epoch's last micro-batch,
    so the epoch's last update has the rate of ``(batches - 1) / batches``. Without accumulation it changes every batch.

    Args:
        epoch: 0-based.
        batch_idx: the micro-batch within the epoch, 0-based.
        batches: micro-batches in the epoch.
        accumulate: micro-batches in an update.
    """
    assert 0 <= batch_idx < batches, (batch_idx, batches)
    assert accumulate >= 1, accumulate
    last = batch_idx == batches - 1
    moved_at = batch_idx if last else batch_idx - batch_idx % accumulate
    return epoch + moved_at / batches


@dataclass(frozen=True)
class WarmupCosine:
    """A linear warm-up from ``warmup_lr``, then ``min_lr + (lr - min_lr) * (1 + cos(pi t / epochs)) / 2``.

    Loshchilov & Hutter, "SGDR", ICLR 2017, eq. 5, without restarts. The cosine starts at epoch 0, not at the end of
    the warm-up, as timm's does. A plain cosine to 0 has ``warmup_epochs=0, min_lr=0``.

    Args:
        lr: peak rate.
        epochs: length of the cosine, warm-up included; after it the rate stays at ``min_lr``.
        warmup_epochs: 0 for none.
        warmup_lr: the rate at time 0.
        min_lr: the rate at the end.
    """

    lr: float
    epochs: int
    warmup_epochs: int = 5
    warmup_lr: float = 1e-6
    min_lr: float = 1e-5

    def __call__(self, t: float) -> float:
        """The learning rate at time t, in epochs."""
        if t < self.warmup_epochs:
            return self.warmup_lr + (self.lr - self.warmup_lr) * t / self.warmup_epochs
        progress = min(t / self.epochs, 1.0)
        return self.min_lr + 0.5 * (self.lr - self.min_lr) * (1 + math.cos(math.pi * progress))


@dataclass(frozen=True)
class WarmupSteps:
    """Warm-up by ``(epoch + 1) / warmup_epochs``, then ``lr`` times the factor of the latest step.

    The rate is constant within an epoch. PaCo's recipe for CIFAR, whose epoch 10 has 1.1 times the rate, is
    ``warmup_epochs=10, factors={10: 1.1, 11: 1.0, 321: 0.1, 361: 0.01}``.

    Args:
        lr: the base rate.
        epochs: the run's length; the steps do not scale with it.
        warmup_epochs: 0 for none.
        factors: first epoch of each step -> its multiple of ``lr`` (not of the step before), or pairs of them.

    Raises:
        ConfigError: a negative factor.
    """

    lr: float
    epochs: int
    warmup_epochs: int = 5
    factors: Mapping[int, float] | Sequence[tuple[int, float]] = ((160, 0.01), (180, 0.0001))

    def __post_init__(self) -> None:
        for start, factor in dict(self.factors).items():
            if not factor >= 0:
                raise ConfigError(f"factors has {factor} from epoch {start} on; type 0 or more: [[{start},0.01]]")

    def __call__(self, t: float) -> float:
        """The learning rate at time t, in epochs."""
        epoch = int(t)
        if epoch < self.warmup_epochs:
            return self.lr * (epoch + 1) / self.warmup_epochs
        factors = {0: 1.0, **dict(self.factors)}
        return self.lr * factors[max(start for start in factors if start <= epoch)]


@dataclass(frozen=True)
class EpochCosine:
    """Warm-up by ``(epoch + 1) / warmup_epochs``, then a cosine to 0 that starts at the warm-up's last epoch.

    The rate is constant within an epoch. With ``warmup_epochs=10`` it is PaCo's on large images (Cui et al.,
    ICCV 2021), with none torch's `CosineAnnealingLR`, used for LDAM's ResNet-50 (Rangwani et al., 2022).

    Args:
        lr: peak rate.
        epochs: the run's length, warm-up included.
        warmup_epochs: 0 for none.
    """

    lr: float
    epochs: int
    warmup_epochs: int = 0

    def __call__(self, t: float) -> float:
        """The learning rate at time t, in epochs."""
        epoch = int(t)
        if epoch < self.warmup_epochs:
            return self.lr * (epoch + 1) / self.warmup_epochs
        peak = max(self.warmup_epochs - 1, 0)
        progress = min((epoch - peak) / max(self.epochs - peak, 1), 1.0)
        return self.lr * 0.5 * (1 + math.cos(math.pi * progress))
