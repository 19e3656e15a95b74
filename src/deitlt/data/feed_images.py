"""What is handed out of an image for each draw, where a view of whole batches does the rest on the device."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import transforms

from deitlt.data.decoding import Box, decode_cropped, draw_box, read_bytes
from deitlt.data.images import ImageDataset, path_of
from deitlt.data.loading import isolated_rng
from deitlt.data.pixels import pixels_of
from deitlt.data.samplers import SampleKey


class Indices(Dataset[tuple[int, int]]):
    """Where an image stands, and its class id."""

    def __init__(self, labels: np.ndarray[Any, np.dtype[np.int64]]) -> None:
        self.labels = labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, key: SampleKey) -> tuple[int, int]:
        return key.index, int(self.labels[key.index])


class WholeImages(Dataset[tuple[Tensor, int]]):
    """A source's images as uint8 [3, H, W]."""

    def __init__(self, source: ImageDataset) -> None:
        self.source = source

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, key: SampleKey) -> tuple[Tensor, int]:
        return pixels_of(self.source, key.index), int(self.source.labels[key.index])


class CroppedImages(Dataset[tuple[Tensor, int]]):
    """Random crops of a source's images, uint8 [3, S, S]; a crop depends on (seed, rank, key) alone."""

    def __init__(
        self, source: ImageDataset, crop: Callable[..., Tensor | Image.Image], image_size: int, seed: int, rank: int
    ) -> None:
        self.source = source
        self.crop, self.image_size = crop, image_size
        self.seed, self.rank = seed, rank

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, key: SampleKey) -> tuple[Tensor, int]:
        path = path_of(self.source)
        assert path is not None, "arrays are streamed whole"
        with isolated_rng(self.seed, self.rank, *key):
            crop = decode_cropped(path(key.index), self.crop, self.image_size)
        return crop, int(self.source.labels[key.index])


class File(NamedTuple):
    """A file's content, and the part of its image that is wanted."""

    content: bytes
    box: Box


class EncodedImages(Dataset[tuple[File, int]]):
    """A source's files as they are, each with the part of it that a random resized crop takes."""

    def __init__(self, source: ImageDataset, crop: transforms.RandomResizedCrop, seed: int, rank: int) -> None:
        self.source, self.crop = source, crop
        self.seed, self.rank = seed, rank

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, key: SampleKey) -> tuple[File, int]:
        path = path_of(self.source)
        assert path is not None, "arrays are not encoded"
        name = path(key.index)
        content = read_bytes(name)
        with isolated_rng(self.seed, self.rank, *key):
            box = draw_box(name, content, self.crop)
        return File(content, box), int(self.source.labels[key.index])
