"""How small arrays of draws get to a batch's device."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def moved(values: NDArray[Any], device: torch.device) -> Tensor:
    """A copy on the device, which the host does not wait for: from pinned memory, where the device is a GPU."""
    tensor = torch.from_numpy(np.ascontiguousarray(values))
    if device.type == "cuda" and values.size:
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)
