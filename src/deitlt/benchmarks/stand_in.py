"""Generated images in place of a data set's files, so that anyone can measure what a recipe costs."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from deitlt.data import DataRequest, DatasetSpec, LongTailDataModule
from deitlt.data.datasets import DataSplits
from deitlt.data.images import ArrayImages, FileImages, ImageDataset
from deitlt.errors import ConfigError

FILES, WIDTH, HEIGHT = 128, 500, 375  # different JPEG files, and their size, a usual one among ImageNet's
LARGEST_ARRAY = 64  # pixels a side; data sets of larger images are files, which have to be decoded


class Shape(NamedTuple):
    """A data set's classes, its smallest class over its largest as published, and its test images."""

    classes: int
    smallest_share: float
    test_images: int


SHAPES = {
    "digits": Shape(10, 1.0, 500),
    "cifar10": Shape(10, 1.0, 10_000),
    "cifar100": Shape(100, 1.0, 10_000),
    "imagenet_lt": Shape(1000, 5 / 1280, 50_000),
    "places_lt": Shape(365, 5 / 4980, 36_500),
    "inat18": Shape(8142, 2 / 1000, 24_426),
}


def generate(datamodule: LongTailDataModule, images: int, folder: Path) -> None:
    """Let a data module that was not opened yet read generated images in place of its data set's files.

    Size, classes and test images are the data set's. What it has as arrays is random pixels; what it has as files
    is JPEG files, a few of which stand for all, so that decoding is measured and the disk is not.

    Args:
        datamodule: the stage's.
        images: training images, before they are made long-tailed.
        folder: where files may be written.

    Raises:
        ConfigError: nobody knows the data set's classes, or they are more than the images.
    """
    spec = datamodule.spec
    if spec.name not in SHAPES:
        raise ConfigError(
            f"generated={images} cannot stand for data.name={spec.name}, whose classes only its files tell; type "
            f"generated=null, or one of: {', '.join(f'data={name}' for name in SHAPES)}."
        )
    shape = SHAPES[spec.name]
    if images < shape.classes:
        raise ConfigError(
            f"generated={images} leaves some of the {shape.classes} classes of {spec.name} without an image; type "
            f"generated={10 * shape.classes} or more."
        )
    datamodule.spec = replace(spec, read=partial(_read, spec, shape, images, folder))


def _read(spec: DatasetSpec, shape: Shape, images: int, folder: Path, request: DataRequest) -> DataSplits:
    """What the data set's own reader would give; `request`, where its files would be, is not looked at."""
    train = _labels(images, shape.classes, shape.smallest_share)
    test = _labels(shape.test_images, shape.classes, 1.0)
    names = tuple(f"class {c}" for c in range(shape.classes))
    if spec.image_size > LARGEST_ARRAY:
        files = _write_files(folder)
        return DataSplits(_files(files, train), _files(files, test), names)
    return DataSplits(_arrays(spec.image_size, train), _arrays(spec.image_size, test), names)


def _labels(images: int, classes: int, smallest_share: float) -> npt.NDArray[np.int64]:
    """Labels [N] of classes that fall in size evenly from class to class; each has an image."""
    shares = smallest_share ** np.linspace(0, 1, classes)
    counts = 1 + ((images - classes) * shares / shares.sum()).astype(np.int64)
    counts[: images - counts.sum()] += 1
    return np.repeat(np.arange(classes), counts)


def _arrays(size: int, labels: npt.NDArray[np.int64]) -> ImageDataset:
    pixels = np.random.default_rng(0).integers(0, 256, (len(labels), size, size, 3), dtype=np.uint8)
    return ArrayImages(pixels, labels)


def _files(files: list[Path], labels: npt.NDArray[np.int64]) -> ImageDataset:
    return FileImages([files[i % len(files)] for i in range(len(labels))], labels)


def _write_files(folder: Path) -> list[Path]:
    """JPEG files as large as photographs of their size: smooth, with a little noise."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{i}.jpg" for i in range(FILES)]
    for file in files:
        smooth = Image.fromarray(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)).resize((WIDTH, HEIGHT))
        noisy = np.asarray(smooth, dtype=np.int16) + rng.integers(-12, 13, (HEIGHT, WIDTH, 1))
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(file, quality=90)
    return files
