"""SAM's two moves of the weights: up the gradient to the sharpest neighbour, and back."""

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import Parameter

Moved = list[tuple[Tensor, Tensor]]  # a parameter, and what it was
EPSILON = 1e-12  # keeps the division sound where the gradient is zero


@torch.no_grad()
def ascend(parameters: Iterable[Parameter], rho: float, adaptive: bool = False, gradient_scale: float = 1.0) -> Moved:
    """Move each parameter to the worst point near it, to first order.

    SAM (Foret et al., 2021, equation 2): e = rho g / |g|. ASAM (Kwon et al., 2021, equation 9 with
    T_w = |w|): e = rho w^2 g / |w g|. Norms are over all parameters together.

    Args:
        parameters: those with a gradient move.
        rho: radius of the neighbourhood.
        adaptive: ASAM's neighbourhood, which follows the scale of each weight.
        gradient_scale: what a GradScaler multiplied the loss with.

    Returns:
        Each moved parameter with a copy of what it was, for `restore`.
    """
    moving: list[Tensor] = [p for p in parameters if p.grad is not None]
    if not moving:
        return []
    # A few kernels for all parameters: a CNN has about a hundred, each too small to pay for kernels of its own.
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
    """Put every parameter back to exactly what it was; adding and subtracting would round."""
    if moved:
        parameters, kept = zip(*moved, strict=True)
        torch._foreach_copy_(parameters, kept)
