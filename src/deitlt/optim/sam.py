"""Sharpness-aware minimisation (SAM): the ascent and its undoing, and schedules of its radius rho.

Foret et al., "Sharpness-Aware Minimization for Efficiently Improving Generalization", ICLR 2021; the schedules are
those of Rangwani et al., "Escaping Saddle Points for Effective Generalization on Class-Imbalanced Data", NeurIPS 2022.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import Parameter

from deitlt.errors import ConfigError

Moved = list[tuple[Tensor, Tensor]]  # a parameter, and a copy of its value before the ascent
EPSILON = 1e-12  # keeps the division finite where the gradient is zero


@torch.no_grad()
def ascend(parameters: Iterable[Parameter], rho: float, adaptive: bool = False, gradient_scale: float = 1.0) -> Moved:
    """Move each parameter to the worst point in its neighbourhood, to first order.

    SAM (Foret et al., 2021, eq. 2): e = rho g / |g|. ASAM (Kwon et al., "ASAM", ICML 2021, eq. 9 with
    T_w = |w|): e = rho w^2 g / |w g|. Norms are over all parameters together.

    Args:
        parameters: those with a gradient move.
        rho: radius of the neighbourhood.
        adaptive: ASAM's neighbourhood, which scales with each weight.
        gradient_scale: factor of a GradScaler on the loss.

    Returns:
        Each moved parameter with a copy of its old value, for `restore`.
    """
    moving: list[Tensor] = [p for p in parameters if p.grad is not None]
    if not moving:
        return []
    # A few kernels for all parameters: a CNN has about a hundred small ones.
    kept = [torch.empty_like(p) for p in moving]
    torch._foreach_copy_(kept, moving)
    gradients = [p.grad for p in moving if p.grad is not None]
    scaled = torch._foreach_mul(kept, gradients) if adaptive else gradients
    ascent = torch._foreach_mul(kept, scaled) if adaptive else gradients
    # g and |g| carry the same loss scale, which cancels; the constant has to carry it too.
    step = rho / (torch.nn.utils.get_total_norm(scaled) + EPSILON * gradient_scale)
    torch._foreach_add_(moving, list(torch._foreach_mul(ascent, step)))
    return list(zip(moving, kept, strict=True))


@torch.no_grad()
def restore(moved: Moved) -> None:
    """Copy every parameter's old value back; adding and subtracting would round."""
    if moved:
        parameters, kept = zip(*moved, strict=True)
        torch._foreach_copy_(parameters, kept)


RhoSchedule = Callable[[int], float]


@dataclass(frozen=True)
class ConstantRho:
    """The same rho in every epoch."""

    value: float

    def __call__(self, epoch: int) -> float:
        """Rho of an epoch (0-based)."""
        return self.value


@dataclass(frozen=True)
class StepRho:
    """Rho that changes at given epochs (Rangwani et al., NeurIPS 2022).

    Args:
        values: first epoch of each step -> its rho, such as ``{0: 0.05, 5: 0.1, 60: 0.5}``, or pairs of them.

    Raises:
        ConfigError: a negative rho, or none for epoch 0.
    """

    values: Mapping[int, float] | Sequence[tuple[int, float]]

    def __post_init__(self) -> None:
        values = dict(self.values)
        if 0 not in values:
            raise ConfigError(f"values={values} gives no rho for epoch 0: type values={ {0: 0.05, **values} }")
        for epoch, rho in values.items():
            if not rho >= 0:
                raise ConfigError(
                    f"SAM's rho cannot be negative: values has {rho} from epoch {epoch} on; type 0 or more."
                )

    def __call__(self, epoch: int) -> float:
        """Rho of an epoch (0-based): that of the latest step that has begun."""
        values = dict(self.values)
        return values[max(start for start in values if start <= epoch)]


@dataclass(frozen=True)
class LinearRho:
    """Rho on a straight line from the first epoch to the last (Rangwani et al., NeurIPS 2022).

    Args:
        start: rho of epoch 0.
        end: rho of epoch ``epochs - 1`` and after it.
        epochs: length of the line; with one epoch rho is ``start``.
    """

    start: float
    end: float
    epochs: int

    def __call__(self, epoch: int) -> float:
        """Rho of an epoch (0-based)."""
        last = max(self.epochs - 1, 1)
        return self.start + (self.end - self.start) * min(epoch, last) / last
