"""One image of a source as a tensor."""

import numpy as np
import torch
from torch import Tensor

from deitlt.data.decoding import decode_whole
from deitlt.data.images import ImageDataset, path_of


def pixels_of(source: ImageDataset, index: int) -> Tensor:
    """An image of a source, decoded as fast as its kind allows: [3, H, W] uint8.

    Raises:
        DataError: its file cannot be read or decoded.
    """
    path = path_of(source)
    if path is not None:
        return decode_whole(path(index))
    return torch.from_numpy(np.array(source[index])).permute(2, 0, 1).contiguous()
