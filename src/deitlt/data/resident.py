"""Whether a data set can live on the device as uint8, and all of it as one tensor if it does."""

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import torch
from PIL import Image
from torch import Tensor

from deitlt.data.images import ImageDataset, path_of
from deitlt.data.memory import free_memory
from deitlt.data.pixels import pixels_of
from deitlt.errors import ConfigError

Resident = Literal["auto"] | bool
SHARE = 0.25  # of the memory that is free, which the pixels may take without being asked to: the model needs the rest
_AT_ONCE = 1024
_DIFFER = "data.resident=true needs images of one size, and these differ; type data.resident=false, which streams them."


def choose_resident(source: ImageDataset, resident: Resident, device: torch.device) -> bool:
    """Whether all images are to live on a device; nothing is decoded but the first one.

    Args:
        source: the images.
        resident: 'auto' holds them where they are of one size and take at most a quarter of the device's free
            memory; True holds them or fails; False never does.
        device: where they would live.

    Raises:
        ConfigError: with True, images that differ in size or do not fit; or another word.
    """
    if resident not in (True, False, "auto"):
        raise ConfigError(f"data.resident={resident} is no choice; type =auto, =true or =false.")
    if resident is False:
        return False
    needed, free = pixels_of(source, 0).numel() * len(source), free_memory(device)
    fits = needed <= (free if resident is True else SHARE * free)
    if resident is True and not fits:
        raise ConfigError(
            f"data.resident=true needs {needed / 2**30:.1f} GiB for the images, and {free / 2**30:.1f} GiB are "
            "free there; type data.resident=false, which streams them."
        )
    if not fits:
        return False
    alike = _of_one_size(source)
    if resident is True and not alike:
        raise ConfigError(_DIFFER)
    return alike


def load_resident(source: ImageDataset, device: torch.device) -> Tensor:
    """All images of a source, decoded on all cores: [N, 3, H, W] uint8 on the device.

    Raises:
        ConfigError: they differ in size.
    """
    first = pixels_of(source, 0)
    pixels = torch.empty((len(source), *first.shape), dtype=torch.uint8, device=device)

    def fill(start: int) -> None:
        # Block by block, so that the host never holds all of what lives on a GPU.
        block = [pixels_of(source, index) for index in range(start, min(start + _AT_ONCE, len(source)))]
        if any(image.shape != first.shape for image in block):
            raise ConfigError(_DIFFER)
        pixels[start : start + len(block)] = torch.stack(block)

    with ThreadPoolExecutor(os.cpu_count()) as pool:  # threads suffice: decoders work outside Python's lock
        for _ in pool.map(fill, range(0, len(source), _AT_ONCE)):
            pass
    return pixels


def _of_one_size(source: ImageDataset) -> bool:
    """Whether all images have the first one's size; of files, whose headers alone are read."""
    path = path_of(source)
    if path is None:
        return True  # arrays

    def size(index: int) -> tuple[int, int]:
        with Image.open(path(index)) as image:
            return image.size

    first = size(0)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(source), _AT_ONCE):
            indices = range(start, min(start + _AT_ONCE, len(source)))
            if any(found != first for found in pool.map(size, indices)):
                return False
    return True
