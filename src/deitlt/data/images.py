"""Decoded images and their labels: arrays in memory, files, or a part of either."""

import os
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
from PIL import Image

from deitlt.errors import DataError

Labels = npt.NDArray[np.int64]


class ImageDataset(Protocol):
    """Images that can be asked for one by one, and their class ids.

    labels: [N] int64. Item i is the decoded RGB image i. A source draws nothing at random and can be
    pickled, so that workers may hold it.
    """

    @property
    def labels(self) -> Labels:
        """Class ids, [N] int64."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Image.Image: ...


@runtime_checkable
class HasFiles(Protocol):
    """A source whose every image is a file."""

    def path(self, index: int, /) -> str:
        """The file of image `index`."""
        ...


class ArrayImages:
    """Images held in memory.

    Args:
        pixels: [N, H, W, 3] uint8.
        labels: [N] class ids.
    """

    def __init__(self, pixels: npt.NDArray[np.uint8], labels: Sequence[int] | npt.NDArray[np.integer]) -> None:
        assert pixels.dtype == np.uint8
        assert pixels.shape[3:] == (3,)
        assert len(pixels) == len(labels)
        self.pixels = pixels
        self.labels: Labels = np.asarray(labels, dtype=np.int64)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Image.Image:
        return Image.fromarray(self.pixels[index])


class FileImages:
    """Images that are decoded from their files when asked for.

    Args:
        paths: the N files.
        labels: [N] class ids.
    """

    def __init__(self, paths: Sequence[str | Path], labels: Sequence[int] | npt.NDArray[np.integer]) -> None:
        assert len(paths) == len(labels)
        # One byte array for all paths: forked workers share it, while touching a list of str copies its
        # pages into every worker.
        self._paths = np.array([os.fsencode(path) for path in paths], dtype=np.bytes_)
        self.labels: Labels = np.asarray(labels, dtype=np.int64)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Image.Image:
        """The image, converted to RGB.

        Raises:
            DataError: the file cannot be decoded.
        """
        return decode(self.path(index))

    def path(self, index: int) -> str:
        """The file of image `index`."""
        return os.fsdecode(bytes(self._paths[index]))


class Subset:
    """Some images of a source, in the order of `indices`; nothing is copied.

    Args:
        source: the whole. A subset of a subset is a view of the innermost source.
        indices: [M] positions in `source`.
    """

    def __init__(self, source: ImageDataset, indices: Sequence[int] | npt.NDArray[np.integer]) -> None:
        chosen = np.asarray(indices, dtype=np.int64)
        if isinstance(source, Subset):
            chosen = source.indices[chosen]
            source = source.source
        self.source: ImageDataset = source
        self.indices: npt.NDArray[np.int64] = chosen
        self.labels: Labels = source.labels[chosen]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Image.Image:
        return self.source[int(self.indices[index])]


class Relabelled:
    """A source whose classes were put in another order; nothing is copied but the labels.

    Args:
        source: the images.
        places: [C], the new class id of each old one.
    """

    def __init__(self, source: ImageDataset, places: npt.NDArray[np.integer]) -> None:
        self.source = source
        self.places: npt.NDArray[np.int64] = np.asarray(places, dtype=np.int64)

    @cached_property
    def labels(self) -> Labels:
        """The new class ids, [N] int64."""
        return self.places[self.source.labels]

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Image.Image:
        return self.source[index]

    def __getstate__(self) -> dict[str, Any]:
        return {"source": self.source, "places": self.places}  # the labels are quickly made again


def decode(path: str) -> Image.Image:
    """Reads and decodes one image file to RGB.

    Raises:
        DataError: the file is missing, truncated, or no image.
    """
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except Exception as error:  # each of Pillow's readers has its own ways to fail on a broken file
        reason = str(error).rstrip(".") or type(error).__name__
        raise DataError(
            f"{path} cannot be decoded as an image ({reason}); replace the file, or type "
            "data.on_broken=skip, which counts such files and goes on without them."
        ) from error


def drop(source: ImageDataset, paths: list[str]) -> ImageDataset:
    """The source without the images of these files, in unchanged order."""
    unwanted = set(paths)
    kept = [i for i, path in enumerate(_paths(source)) if path not in unwanted]
    return Subset(source, np.array(kept, dtype=np.int64)) if unwanted else source


def _paths(source: ImageDataset) -> list[str]:
    """The file of each image, [] for a source without files."""
    path = path_of(source)
    return [] if path is None else [path(i) for i in range(len(source))]


def path_of(source: ImageDataset) -> Callable[[int], str] | None:
    """What tells the file of a source's image i; None for a source without files."""
    if isinstance(source, Relabelled):
        return path_of(source.source)
    if isinstance(source, Subset):
        path, indices = path_of(source.source), source.indices
        return None if path is None else lambda i: path(int(indices[i]))
    return source.path if isinstance(source, HasFiles) else None
