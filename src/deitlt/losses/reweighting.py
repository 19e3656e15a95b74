"""Class weights from the effective number of samples."""

from collections.abc import Sequence

import torch
from torch import Tensor

from deitlt.errors import ConfigError
from deitlt.losses.class_counts import count_tensor


def effective_number_weights(
    counts: Sequence[int] | Tensor, beta: float = 0.9999, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Weights ``w_c = (1 - beta) / (1 - beta ** n_c)``, normalised to the sum C.

    Cui et al., "Class-Balanced Loss Based on Effective Number of Samples", CVPR 2019, eq. 2 and 3.

    Args:
        counts: n_c, training images of each class.
        beta: in [0, 1); 0 gives equal weights, towards 1 they come near to 1 / n_c.
        dtype: of the result; the weights are computed in float64.

    Returns:
        [C] weights.

    Raises:
        ConfigError: beta outside [0, 1).
        DataError: a class has no image.
    """
    if not 0 <= beta < 1:
        raise ConfigError(f"beta={beta} must be at least 0 and below 1: type beta=0.9999")
    numbers = count_tensor(counts).cpu().double()
    weights = (1 - beta) / (1 - beta**numbers)
    return (weights * (len(weights) / weights.sum())).to(dtype)
