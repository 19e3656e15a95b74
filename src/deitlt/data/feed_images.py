"""What is handed out of an image for each draw, where a view of whole batches does the rest on the device."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import transforms

from deitlt.data.decoding import Box, decode_cropped, draw_box, read_bytes
from deitlt.data.pixels import pixels_of
from deitlt.data.samplers import Draw
from deitlt.data.sources import ImageSource
from deitlt.data.streams import own_streams
from deitlt.data.verify import path_of


class Indices(Dataset[tuple[int, int]]):
    """Where an image stands, and its class id."""

    def __init__(self, labels: np.ndarray[Any, np.dtype[np.int64]]) -> None:
        self.labels = labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, draw: Draw) -> tuple[int, int]:
        return draw.index, int(self.labels[draw.index])


class WholeImages(Dataset[tuple[Tensor, int]]):
    """A source's images as uint8 [3, H, W]."""

    def __init__(self, source: ImageSource) -> None:
        self.source = source

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, draw: Draw) -> tuple[Tensor, int]:
        return pixels_of(self.source, draw.index), int(self.source.labels[draw.index])


class CroppedImages(Dataset[tuple[Tensor, int]]):
    """Random crops of a source's images, uint8 [3, S, S]; a crop depends on (seed, rank, draw) alone."""

    def __init__(
        self, source: ImageSource, crop: Callable[..., Tensor | Image.Image], image_size: int, seed: int, rank: int
    ) -> None:
        self.source = source
        self.crop, self.image_size = crop, image_size
        self.seed, self.rank = seed, rank

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, draw: Draw) -> tuple[Tensor, int]:
        path = path_of(self.source)
        assert path is not None, "arrays are streamed whole"
        with own_streams(self.seed, self.rank, *draw):
            crop = decode_cropped(path(draw.index), self.crop, self.image_size)
        return crop, int(self.source.labels[draw.index])


class File(NamedTuple):
    """A file's content, and the part of its image that is wanted."""

    content: bytes
    box: Box


class EncodedImages(Dataset[tuple[File, int]]):
    """A source's files as they are, each with the part of it that a random resized crop takes."""

    def __init__(self, source: ImageSource, crop: transforms.RandomResizedCrop, seed: int, rank: int) -> None:
        self.source, self.crop = source, crop
        self.seed, self.rank = seed, rank

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, draw: Draw) -> tuple[File, int]:
        path = path_of(self.source)
        assert path is not None, "arrays are not encoded"
        name = path(draw.index)
        content = read_bytes(name)
        with own_streams(self.seed, self.rank, *draw):
            box = draw_box(name, content, self.crop)
        return File(content, box), int(self.source.labels[draw.index])
