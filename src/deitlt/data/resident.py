"""Whether a data set fits on the device as uint8, and all of it as one tensor if it does."""

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import torch
from torch import Tensor

from deitlt.data.feeds import pixels_of
from deitlt.data.memory import free_memory
from deitlt.data.sources import ImageSource
from deitlt.data.verify import path_of
from deitlt.errors import ConfigError

Resident = Literal["auto", "true", "false"] | bool
SHARE = 0.25  # of the memory that is free, which the pixels may take without being asked to: the model needs the rest
_AT_ONCE = 1024


def load_resident(source: ImageSource, resident: Resident, device: torch.device) -> Tensor | None:
    """All images of a source, on the host: [N, 3, H, W] uint8; None where they are to be streamed.

    Args:
        source: the images.
        resident: 'auto' holds them where they are of one size and take at most a quarter of the device's free
            memory; True holds them or fails; False never does.
        device: where they will live.

    Raises:
        ConfigError: with True, images that differ in size or do not fit; or another word.
    """
    if resident not in (True, False, "auto"):
        raise ConfigError(f"data.resident={resident} is no choice; type =auto, =true or =false.")
    if resident is False:
        return None
    first = pixels_of(source, path_of(source), 0)
    needed, free = first.numel() * len(source), free_memory(device)
    if needed > (free if resident is True else SHARE * free):
        if resident is True:
            raise ConfigError(
                f"data.resident=true needs {needed / 2**30:.1f} GiB for the images, and {free / 2**30:.1f} GiB are "
                "free there; type data.resident=false, which streams them."
            )
        return None
    pixels = _stacked(source, first)
    if pixels is None and resident is True:
        raise ConfigError(
            "data.resident=true needs images of one size, and these differ; type data.resident=false, which streams "
            "them."
        )
    return pixels


def one_size(source: ImageSource) -> bool:
    """Whether all images are known to be of one size without decoding them: arrays are, files may not be."""
    return path_of(source) is None


def _stacked(source: ImageSource, first: Tensor) -> Tensor | None:
    """Every image in one tensor, decoded on all cores; None at the first that has another size."""
    path = path_of(source)
    pixels = torch.empty((len(source), *first.shape), dtype=torch.uint8)

    def fill(start: int) -> bool:
        for index in range(start, min(start + _AT_ONCE, len(source))):
            image = pixels_of(source, path, index)
            if image.shape != first.shape:
                return False
            pixels[index] = image
        return True

    with ThreadPoolExecutor(os.cpu_count()) as pool:  # threads suffice: decoders work outside Python's lock
        parts = pool.map(fill, range(0, len(source), _AT_ONCE))
        if all(parts):
            return pixels
        pool.shutdown(cancel_futures=True)
    return None
