"""Class counts as a tensor that a loss may divide by."""

from collections.abc import Sequence

import torch
from torch import Tensor

from deitlt.errors import DataError


def count_tensor(counts: Sequence[int] | Tensor) -> Tensor:
    """Training images of each class as an int64 tensor, [C].

    Raises:
        DataError: a class has no image, so that neither a weight, a margin nor a prior exists for it.
    """
    tensor = torch.as_tensor(counts, dtype=torch.int64)
    empty = torch.nonzero(tensor < 1).flatten().tolist()
    if empty:
        raise DataError(
            f"class {empty[0]} has {int(tensor[empty[0]])} training images, but a loss made for the long "
            "tail needs 1 or more of each class: add images or leave the class out"
        )
    return tensor
