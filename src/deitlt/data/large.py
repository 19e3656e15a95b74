"""Data sets that are published as lists: ImageNet-LT, Places-LT, iNaturalist-2018, and any that has lists alike."""

from functools import partial
from pathlib import Path

import numpy as np

from deitlt.data import inat_json, lists
from deitlt.data.datasets import DataRequest, DatasetSpec, DataSplits, register_dataset
from deitlt.data.file_index import FileIndex, FileTable, IndexedImages
from deitlt.data.index_cache import cached_index
from deitlt.errors import ConfigError, DataError
from deitlt.transforms.statistics import IMAGENET
from deitlt.types import Normalisation

INAT18_NORMALISATION = Normalisation(mean=(0.466, 0.471, 0.380), std=(0.195, 0.194, 0.192))

Names = tuple[str, ...]


def read_lists(train: Names, test: Names, request: DataRequest) -> DataSplits:
    """Opens the images of a training and of a test list; the files that they name are not looked for.

    The training list says what the classes are: its labels are 0..C-1, each with an image. Paths start at
    the request's root. A list whose name ends in .json is the iNaturalist competition's.

    Args:
        train: names under which the training list is published; the first that is there is taken.
        test: the same of the test list.
        request: root, and the lists where the user named them.

    Raises:
        ConfigError: a list is neither named nor published.
        DataError: a list is not there, or not as it should be, or both list the same images.
    """
    root = request.root.expanduser()
    train_file = _find("train", request.train_list, train, root)
    test_file = _find("test", request.test_list, test, root)
    trained, tested = open_list(train_file), open_list(test_file)
    _refuse_same(train_file, test_file, trained.table, tested.table)
    num_classes = _count_classes(train_file, trained)
    _refuse_unknown(test_file, tested, num_classes)
    names = trained.table.names or tuple(map(str, range(num_classes)))
    return DataSplits(IndexedImages(trained, str(root)), IndexedImages(tested, str(root)), names)


def open_list(file: Path) -> FileIndex:
    """The index of one list, parsed now or at an earlier time."""
    if file.suffix.lower() == ".json":
        return cached_index(file, inat_json.parse_inat_json, inat_json.KIND)
    return cached_index(file, lists.parse_list, lists.KIND)


def _find(split: str, given: Path | None, published: Names, root: Path) -> Path:
    """The list of a split: the one given, or one with a published name in the root or one folder below."""
    if given is not None:
        return given.expanduser()
    if not published:
        raise ConfigError(f"data.name=lists has no list of its own; type data.{split}_list=FILE.")
    if not root.is_dir():
        raise DataError(
            f"data.root={root} is not a folder; type data.root=FOLDER with the folder of the images and {published[0]}."
        )
    for name in published:
        for file in (root / name, *sorted(root.glob(f"*/{name}"))):
            if file.is_file():
                return file
    raise DataError(
        f"data.root={root} holds no {' or '.join(published)}; put the list there, or type data.{split}_list=FILE."
    )


def _refuse_same(train_file: Path, test_file: Path, trained: FileTable, tested: FileTable) -> None:
    """Raises DataError where both lists name the same images, so that one would test on what one trained on."""
    if np.array_equal(trained.borders, tested.borders) and np.array_equal(trained.paths, tested.paths):
        raise DataError(
            f"The training list {train_file} and the test list {test_file} name the same images, and accuracy on "
            "training images tells nothing; type data.test_list=FILE with the list of the test images."
        )


def _count_classes(file: Path, index: FileIndex) -> int:
    """The number of classes of a training list, whose labels must have no gap."""
    present = np.unique(index.table.labels)
    gaps = np.flatnonzero(present != np.arange(len(present)))
    if len(gaps):
        raise DataError(
            f"{file} lists no image of the label {gaps[0]}, though its labels go up to {present[-1]}; number the "
            "classes from 0 without gaps."
        )
    return len(present)


def _refuse_unknown(file: Path, index: FileIndex, num_classes: int) -> None:
    """Raises DataError where a test list has a label that the training list lacks."""
    strange = np.flatnonzero(index.table.labels >= num_classes)
    if len(strange):
        row = int(strange[0])
        raise DataError(
            f"{file} gives {index.path(row)!r} the label {index.table.labels[row]}, which the training list lacks: "
            f"its labels are 0 to {num_classes - 1}; name two lists of one data set by data.train_list=FILE "
            "data.test_list=FILE."
        )


def _register(
    name: str,
    published: tuple[Names, Names],
    cuts: tuple[int, int] | None,
    description: str,
    normalisation: Normalisation = IMAGENET,
) -> None:
    read = partial(read_lists, *published)
    register_dataset(DatasetSpec(name, read, 224, normalisation, cuts, description, class_order="count"))


_register(
    "imagenet_lt",
    (("ImageNet_LT_train.txt",), ("ImageNet_LT_test.txt",)),
    (390, 835),
    "ImageNet-LT: 115,846 training images of 1,000 classes, from the published lists",
)
_register(
    "places_lt",
    (("Places_LT_train.txt",), ("Places_LT_test.txt",)),
    None,
    "Places-LT: 62,500 training images of 365 scenes, from the published lists",
)
_register(
    "inat18",
    (("iNaturalist18_train.txt", "train2018.json"), ("iNaturalist18_val.txt", "val2018.json")),
    (842, 4543),
    "iNaturalist-2018: 437,513 training images of 8,142 species",
    INAT18_NORMALISATION,
)
_register("lists", ((), ()), None, "any two lists of your own, a line 'path label' for each image")
