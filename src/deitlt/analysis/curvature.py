"""A symmetric matrix that is known by its products alone: its largest eigenvalue, and random vectors to ask."""

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

Product = Callable[[Tensor], Tensor]
_EPSILON = 1e-7  # float32: a remainder of so small a share is rounding, and the space of products is exhausted


def largest_eigenvalue(product: Product, start: Tensor, tolerance: float, most: int) -> float:
    """The algebraically largest eigenvalue, by Lanczos' iteration.

    From a start v the power iteration has the last of v, Hv, H^2 v, ...; Lanczos (1950) takes the best estimate
    that their whole span holds, the largest eigenvalue of H's tridiagonal restriction to it (Golub and Van Loan,
    "Matrix Computations", section 10.1). So it needs fewer products, and gives the largest and not the largest in
    magnitude, which before a minimum may be negative. Two vectors are kept; without re-orthogonalisation
    eigenvalues come again, and the largest stays what it is (Paige, 1971).

    Args:
        product: v [n] -> Hv [n].
        start: [n], not zero.
        tolerance: relative change between two products at which it ends.
        most: products at most.

    Returns:
        An estimate from below; NaN where a product is not finite.
    """
    diagonal: list[float] = []
    beside: list[float] = []
    vector, before, estimate = start / start.norm(), torch.zeros_like(start), -math.inf
    for _ in range(most):
        image = product(vector)
        diagonal.append(float(image.dot(vector)))
        if not math.isfinite(diagonal[-1]):
            return math.nan
        image = image - diagonal[-1] * vector - (beside[-1] * before if beside else 0.0)
        last, estimate = estimate, _largest_of_tridiagonal(diagonal, beside)
        beside.append(float(image.norm()))
        if abs(estimate - last) <= tolerance * abs(estimate) or beside[-1] <= _EPSILON * max(map(abs, diagonal)):
            break
        vector, before = image / beside[-1], vector
    return estimate


def random_signs(size: int, device: torch.device, *key: int) -> Tensor:
    """[size] of -1 and 1 in equal numbers to be expected; they depend on `key` alone, not on the device."""
    signs = np.random.default_rng(key).integers(0, 2, size, dtype=np.int8)
    return torch.from_numpy(signs).to(device).float().mul_(2).sub_(1)


def random_direction(size: int, device: torch.device, *key: int) -> Tensor:
    """[size], each direction as likely as any other; it depends on `key` alone, not on the device."""
    return torch.from_numpy(np.random.default_rng(key).standard_normal(size, dtype=np.float32)).to(device)


def _largest_of_tridiagonal(diagonal: list[float], beside: list[float]) -> float:
    matrix = torch.diag(torch.tensor(diagonal, dtype=torch.float64))
    if beside:
        off = torch.diag(torch.tensor(beside[: len(diagonal) - 1], dtype=torch.float64), 1)
        matrix = matrix + off + off.T
    return float(torch.linalg.eigvalsh(matrix)[-1])
