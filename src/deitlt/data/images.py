"""Decoded images and their labels: arrays in memory, files, or a part of either."""

import io
import os
import zlib
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Protocol, cast, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torchvision import transforms
from torchvision.transforms.v2 import functional as F

from deitlt.errors import DataError

JPEG = b"\xff\xd8"  # what every JPEG file begins with
# A JPEG can be decoded at 1/2, 1/4 or 1/8 of its size. Measured on one core, to 224 pixels: from four times that
# size on it pays (1,600 x 1,200: 3.8 ms instead of 5.8), below it torchvision's decoder of the whole is faster.
REDUCED_FROM = 4
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
    """A source whose every image is a file, or lies as one would in a larger file."""

    def path(self, index: int, /) -> str:
        """The file of image `index`, or what it is called instead."""
        ...

    def open(self, index: int, /) -> BinaryIO:
        """That file's content."""
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

    The names are one string of bytes and its borders, which forked workers share: touching a list of str would copy its
    pages into every worker.

    Args:
        paths: the N files.
        labels: [N] class ids.
        root: the folder at which relative paths start.
    """

    def __init__(
        self,
        paths: Sequence[str | bytes | Path],
        labels: Sequence[int] | npt.NDArray[np.integer],
        root: str = "",
    ) -> None:
        assert len(paths) == len(labels)
        encoded = [os.fsencode(path) for path in paths]
        self.root = root
        self._names = b"".join(encoded)
        self._borders = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
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
        name = os.fsdecode(self._names[self._borders[index] : self._borders[index + 1]])
        return os.path.join(self.root, name)

    def open(self, index: int) -> BinaryIO:
        """That file, for reading."""
        return Path(self.path(index)).open("rb")

    def names(self, places: npt.NDArray[np.int64]) -> list[bytes]:
        """The files of many images, as the system encodes them."""
        root, names = os.fsencode(self.root), self._names
        borders = zip(self._borders[places].tolist(), self._borders[places + 1].tolist(), strict=True)
        return [os.path.join(root, names[start:end]) if root else names[start:end] for start, end in borders]


class EncodedImages:
    """Images of any size that another library keeps, decoded when asked for.

    Args:
        read: place -> what a file of that image would hold; workers get a copy of it.
        labels: [N] class ids.
        marks: [N], what tells an image from another one in its place, such as the size of its file.
        name: of the split; image 7 is called 'NAME[7]'.
    """

    def __init__(
        self,
        read: Callable[[int], bytes],
        labels: Sequence[int] | npt.NDArray[np.integer],
        marks: Sequence[int] | npt.NDArray[np.integer],
        name: str,
    ) -> None:
        assert len(labels) == len(marks)
        self.read, self.name, self.marks = read, name, np.asarray(marks, dtype=np.int64)
        self.labels: Labels = np.asarray(labels, dtype=np.int64)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Image.Image:
        """The image, converted to RGB.

        Raises:
            DataError: it cannot be read or decoded.
        """
        return decode(self.path(index), _read(self, index))

    def path(self, index: int) -> str:
        """What image `index` is called."""
        return f"{self.name}[{index}]"

    def open(self, index: int) -> BinaryIO:
        """What a file of image `index` would hold."""
        return io.BytesIO(self.read(index))

    def names(self, places: npt.NDArray[np.int64]) -> list[bytes]:
        """What tells many images from others."""
        return [b"%d" % mark for mark in self.marks[places].tolist()]


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


def decode(path: str, content: bytes | None = None) -> Image.Image:
    """Reads and decodes one image file to RGB.

    Args:
        path: its name.
        content: what it holds; None reads it.

    Raises:
        DataError: the file is missing, truncated, or no image.
    """
    try:
        with Image.open(path if content is None else io.BytesIO(content)) as image:
            return image.convert("RGB")
    except Exception as error:  # each of Pillow's readers has its own ways to fail on a broken file
        is_unknown = content is not None and isinstance(error, UnidentifiedImageError)  # which names an object
        reason = "of no known kind" if is_unknown else str(error).rstrip(".") or type(error).__name__
        raise DataError(
            f"{path} cannot be decoded as an image ({reason}); replace the file, or type "
            "data.on_broken=skip, which counts such files and goes on without them."
        ) from error


def drop(source: ImageDataset, paths: Sequence[str]) -> ImageDataset:
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
    whole = whole_of(source)
    return (lambda i: whole.path(located(source, i)[1])) if isinstance(whole, HasFiles) else None


def whole_of(source: ImageDataset) -> ImageDataset:
    """The source that has the images, of which this one is a part or an order."""
    while isinstance(source, Subset | Relabelled):
        source = source.source
    return source


def located(source: ImageDataset, index: int) -> tuple[ImageDataset, int]:
    """The source that has image `index`, and its place there."""
    while isinstance(source, Subset | Relabelled):
        index = int(source.indices[index]) if isinstance(source, Subset) else index
        source = source.source
    return source, index


def identities(source: ImageDataset, places: npt.NDArray[np.int64]) -> list[bytes]:
    """What tells some of a source's images from others: their files, of those in memory the pixels, else the places."""
    if isinstance(source, Relabelled):
        return identities(source.source, places)
    if isinstance(source, Subset):
        return identities(source.source, source.indices[places])
    if isinstance(source, FileImages | EncodedImages):
        return source.names(places)
    if isinstance(source, HasFiles):
        return [os.fsencode(source.path(place)) for place in places.tolist()]
    if isinstance(source, ArrayImages):
        return [b"%08x" % zlib.crc32(np.ascontiguousarray(image).data) for image in source.pixels[places]]
    return [b"%d" % place for place in places.tolist()]


class Box(NamedTuple):
    """A part of an image, in its pixels."""

    top: int
    left: int
    height: int
    width: int


def levels_of(dataset: ImageDataset, index: int) -> Tensor:
    """An image as uint8 [3, H, W], decoded as fast as its kind allows.

    Raises:
        DataError: its file cannot be read or decoded.
    """
    source, place = located(dataset, index)
    if not isinstance(source, HasFiles):
        return torch.from_numpy(np.array(source[place])).permute(2, 0, 1).contiguous()
    return _decode_levels(source.path(place), _read(source, place))


def decode_crop(
    dataset: ImageDataset, index: int, crop: Callable[..., Tensor | Image.Image], image_size: int
) -> Tensor:
    """What a random crop takes of an image: [3, image_size, image_size] uint8.

    A random resized crop is drawn before anything is decoded, so that a JPEG of which it takes far more pixels than
    it keeps is decoded at a fraction of its size.

    Args:
        dataset: of files.
        index: the image's.
        crop: a transform of images and tensors; it may draw from the global generators.
        image_size: pixels a side of what it gives.

    Raises:
        DataError: the file cannot be read or decoded.
    """
    source, place = located(dataset, index)
    assert isinstance(source, HasFiles), "arrays are streamed whole"
    path, content = source.path(place), _read(source, place)
    if not isinstance(crop, transforms.RandomResizedCrop):
        return cast(Tensor, crop(_decode_levels(path, content)))
    box = _draw_box(path, content, crop)
    if content.startswith(JPEG) and min(box.height, box.width) >= REDUCED_FROM * image_size:
        return _decode_reduced(content, box, image_size, crop.interpolation)
    levels = _decode_levels(path, content)
    size = [image_size, image_size]
    scaled: Tensor = F.resized_crop(levels, *box, size, crop.interpolation, antialias=True)
    return scaled


def _read(source: HasFiles, index: int) -> bytes:
    try:
        with source.open(index) as file:
            return file.read()
    except OSError as error:
        raise DataError(
            f"{source.path(index)} cannot be read ({error.strerror}); put it back, or type data.on_broken=skip."
        ) from error


def _draw_box(path: str, content: bytes, crop: transforms.RandomResizedCrop) -> Box:
    """The part that a random resized crop takes of an encoded image, whose header alone is read."""
    try:
        with Image.open(io.BytesIO(content)) as image:
            return Box(*crop.get_params(image, list(crop.scale), list(crop.ratio)))
    except (OSError, ValueError, SyntaxError):
        decode(path, content)  # says what is wrong
        raise


def _decode_levels(path: str, content: bytes) -> Tensor:
    """A file's image, uint8 [3, H, W]: torchvision takes half of Pillow's time for a JPEG, Pillow reads the rest."""
    if content.startswith(JPEG):
        encoded = torch.frombuffer(bytearray(content), dtype=torch.uint8)
        try:
            from torchvision.io import ImageReadMode, decode_jpeg  # will leave torchvision one day, as its 0.29 says

            return cast(Tensor, decode_jpeg(encoded, ImageReadMode.RGB))
        except (ImportError, RuntimeError):
            pass  # Pillow knows more kinds, and names what is broken
    return cast(Tensor, F.pil_to_tensor(decode(path, content)))


def _decode_reduced(content: bytes, box: Box, image_size: int, interpolation: transforms.InterpolationMode) -> Tensor:
    """The part of a JPEG, decoded at the smallest of the format's sizes that is still larger than what is kept."""
    with Image.open(io.BytesIO(content)) as image:
        whole_width, whole_height = image.size
        image.draft("RGB", (image_size * whole_width // box.width, image_size * whole_height // box.height))
        pixels = image.convert("RGB")
    across, down = pixels.width / whole_width, pixels.height / whole_height
    left, top = box.left * across, box.top * down
    part = (left, top, left + box.width * across, top + box.height * down)
    resampling = Image.Resampling[interpolation.name]
    return cast(Tensor, F.pil_to_tensor(pixels.resize((image_size, image_size), resampling, box=part)))
