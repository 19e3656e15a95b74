"""Any folder of images: train/ and test/ with a folder per class, or CSV files that list the images."""

import os
from collections.abc import Iterator
from pathlib import Path

from deitlt.data.image_lists import read_image_lists
from deitlt.data.registry import DataRequest, DatasetSpec, DataSplits, register_dataset
from deitlt.data.sources import FileImages
from deitlt.errors import ConfigError, DataError
from deitlt.transforms.statistics import IMAGENET

IMAGE_EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".gif")
LAYOUT = "type data.root=FOLDER, where FOLDER holds train/ and test/ (or val/) with a folder of images per class"


def read_folder(request: DataRequest) -> DataSplits:
    """Opens an image folder, or, where both CSV files are given, the images that they list.

    The classes are train/'s folders, sorted by name; a class may be missing in the test set. Files may lie
    at any depth below their class's folder; names that begin with a dot are passed over.

    Raises:
        ConfigError: only one of the two CSV files is given.
        DataError: a folder, a class or an image is missing, or a CSV file is not as it should be.
    """
    root = request.root.expanduser()
    if request.train_csv is not None and request.test_csv is not None:
        return read_image_lists(request.train_csv, request.test_csv, root)
    if request.train_csv is not None or request.test_csv is not None:
        given, absent = ("train", "test") if request.train_csv else ("test", "train")
        raise ConfigError(f"data.{given}_csv needs the other list beside it: type data.{absent}_csv=FILE as well.")
    train, test = _split_folders(root)
    classes = _class_names(train)
    tested = _test_classes(test, classes)
    return DataSplits(_read_split(train, classes, classes), _read_split(test, tested, classes), classes)


def _split_folders(root: Path) -> tuple[Path, Path]:
    """The folders of the training and of the test images."""
    if not root.is_dir():
        raise DataError(f"data.root={root} is not a folder; {LAYOUT}.")
    if not (root / "train").is_dir():
        raise DataError(f"data.root={root} has no folder train/; {LAYOUT}.")
    for name in ("test", "val"):
        if (root / name).is_dir():
            return root / "train", root / name
    raise DataError(f"data.root={root} has neither a folder test/ nor val/; {LAYOUT}.")


def _class_names(split: Path) -> tuple[str, ...]:
    names = sorted(entry.name for entry in os.scandir(split) if entry.is_dir() and not entry.name.startswith("."))
    if not names:
        raise DataError(f"{split} holds no class folder and so no image; {LAYOUT}.")
    return tuple(names)


def _test_classes(test: Path, classes: tuple[str, ...]) -> tuple[str, ...]:
    """The classes that have a folder in the test set."""
    present = _class_names(test)
    unknown = [name for name in present if name not in set(classes)]
    if unknown:
        raise DataError(
            f"{test} has the class {unknown[0]!r}, which {test.parent / 'train'} lacks; rename or remove "
            f"{test / unknown[0]}, or add {test.parent / 'train' / unknown[0]} with its images."
        )
    return present


def _read_split(split: Path, folders: tuple[str, ...], classes: tuple[str, ...]) -> FileImages:
    """The images below a split's class folders, class by class, each class sorted by path."""
    ids = {name: i for i, name in enumerate(classes)}
    paths: list[str] = []
    labels: list[int] = []
    for name in folders:
        found = sorted(_image_files(split / name))
        if not found:
            raise DataError(
                f"The class folder {split / name} holds no image ({' '.join(IMAGE_EXTENSIONS)}); put some "
                "there, or remove the folder."
            )
        paths += found
        labels += [ids[name]] * len(found)
    return FileImages(paths, labels)


def _image_files(folder: Path) -> Iterator[str]:
    """Every image at any depth below a folder."""
    for parent, folders, files in os.walk(folder, followlinks=True):
        # Hidden names are copies that tools made (.ipynb_checkpoints, macOS's ._name.jpg).
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            if not name.startswith(".") and name.lower().endswith(IMAGE_EXTENSIONS):
                yield os.path.join(parent, name)


register_dataset(
    DatasetSpec(
        name="folder",
        read=read_folder,
        image_size=224,
        normalisation=IMAGENET,
        group_cuts=None,
        description="your own images: train/ and test/ with a folder per class, or two CSV files path,label",
    )
)
