"""Any folder of images: train/ and test/ with a folder per class, or CSV files that list the images."""

import csv
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from deitlt.data.datasets import DataRequest, DatasetSpec, DataSplits, register_dataset
from deitlt.data.images import FileImages
from deitlt.errors import ConfigError, DataError
from deitlt.transforms import IMAGENET

# The classes of a data set that a folder may be expected to hold, and each one's training and test images.
CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
EXPECTED = {"cifar10": ("CIFAR-10", CIFAR10, (5000, 1000))}
IMAGE_EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".gif")
LAYOUT = "type data.root=FOLDER, where FOLDER holds train/ and test/ (or val/) with a folder of images per class"


def read_folder(request: DataRequest) -> DataSplits:
    """Opens an image folder, or, where both CSV files are given, the images that they list.

    The classes are train/'s folders, sorted by name; a class may be missing in the test set. Files may lie
    at any depth below their class's folder; names that begin with a dot are passed over.

    Raises:
        ConfigError: only one of the two CSV files is given.
        DataError: a folder, a class or an image is missing, a CSV file is not as it should be, or the images are not
            those of the data set that the request expects.
    """
    found = _read_any(request)
    if request.expects is not None:
        _refuse_other(found, request)
    return found


def _refuse_other(found: DataSplits, request: DataRequest) -> None:
    """Raise DataError where class names or counts are not those of the expected data set."""
    name, classes, counts = EXPECTED[str(request.expects)]
    strange = sorted({*found.class_names} ^ {*classes})
    differs = [f"{'has' if cls in found.class_names else 'lacks'} the class {cls!r}" for cls in strange]
    for split, source, expected in (("train", found.train, counts[0]), ("test", found.test, counts[1])):
        there_are = np.bincount(source.labels, minlength=len(found.class_names))
        pairs = zip(found.class_names, there_are, strict=True)
        differs += [f"has {n} {split} images of {cls!r}, not {expected}" for cls, n in pairs if n != expected]
    if differs:
        raise DataError(
            f"data.root={request.root} is not {name}, which the recipe is for: it {differs[0]}; type data.root=FOLDER "
            f"with all of {name}'s images, of which data.max_count and data.imbalance_factor choose, or "
            "data.expects=null for any folder."
        )


def _read_any(request: DataRequest) -> DataSplits:
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


_INTEGER = re.compile(r"-?[0-9]+")


class Row(NamedTuple):
    """One line of a list; line: its number in the file, counted from 1."""

    line: int
    path: str
    label: str


def read_image_lists(train_csv: Path, test_csv: Path, root: Path) -> DataSplits:
    """Opens the images that two CSV files list.

    The training list says what the classes are. Its labels are either all integers or all names. Integers
    are class ids 0..C-1, where C - 1 is the largest id in the training list and each id has an image there.
    Names are sorted, and a name's place is its class id. A relative path starts at the CSV file's folder or,
    where no such file is there, at `root`. Further columns are not looked at.

    Raises:
        DataError: a list cannot be read, lacks a column or any line, or has a line whose label is no class
            or whose image does not exist.
    """
    train, test = _read_rows(train_csv), _read_rows(test_csv)
    classes = _listed_classes(train_csv, train)
    return DataSplits(_images(train_csv, train, root, classes), _images(test_csv, test, root, classes), classes)


def _read_rows(file: Path) -> list[Row]:
    """All lines of one list."""
    try:
        with file.expanduser().open(newline="", encoding="utf-8-sig") as text:
            rows = list(_parse(file, text))
    except (OSError, UnicodeError, csv.Error) as error:
        raise DataError(
            f"{file} cannot be read as a CSV file in UTF-8 ({error}); name a file with the header path,label."
        ) from error
    if not rows:
        raise DataError(f"{file} lists no image; give it the header path,label and a line for each image.")
    return rows


def _parse(file: Path, text: Iterable[str]) -> Iterator[Row]:
    reader = csv.reader(text)
    header = [name.strip() for name in next(reader, [])]
    for column in ("path", "label"):
        if column not in header:
            raise DataError(
                f"{file} has no column {column!r} (its header is {','.join(header)!r}); its first line must "
                "be path,label."
            )
    at_path, at_label = header.index("path"), header.index("label")
    for cells in reader:
        if not any(cell.strip() for cell in cells):
            continue  # an empty line
        if len(cells) <= max(at_path, at_label):
            raise DataError(f"{file}, line {reader.line_num} has {len(cells)} of {len(header)} columns; complete it.")
        yield Row(reader.line_num, cells[at_path].strip(), _canonical(cells[at_label].strip()))


def _canonical(label: str) -> str:
    """The label as its class is named: '07' and '7' are one class id."""
    return str(int(label)) if _INTEGER.fullmatch(label) else label


def _listed_classes(file: Path, rows: list[Row]) -> tuple[str, ...]:
    """The classes of the training list, which see `read_image_lists`."""
    numbered = _INTEGER.fullmatch(rows[0].label) is not None
    for row in rows:
        is_number = _INTEGER.fullmatch(row.label) is not None
        if not row.label or is_number != numbered or (numbered and row.label.startswith("-")):
            raise DataError(
                f"{file}, line {row.line}: the label {row.label!r} does not fit; labels must be either "
                f"all class ids 0, 1, 2, ... or all names, and line {rows[0].line} has {rows[0].label!r}."
            )
    present = {row.label for row in rows}
    return _numbered_classes(file, {int(label) for label in present}) if numbered else tuple(sorted(present))


def _numbered_classes(file: Path, ids: set[int]) -> tuple[str, ...]:
    missing = next((i for i in range(len(ids)) if i not in ids), None)
    if missing is not None:
        raise DataError(
            f"{file} lists no image of class {missing}, though its labels go up to {max(ids)}; number the "
            "classes from 0 without gaps, or use names as labels."
        )
    return tuple(str(i) for i in range(len(ids)))


def _images(file: Path, rows: list[Row], root: Path, classes: tuple[str, ...]) -> FileImages:
    """The images of one list; their files are looked for, not opened."""
    ids = {name: i for i, name in enumerate(classes)}
    for row in rows:
        if row.label not in ids:
            raise DataError(
                f"{file}, line {row.line}: the label {row.label!r} is none of the training list's "
                f"{len(classes)} classes ({_shown(classes)}); mend the line or remove it."
            )
    return FileImages([_locate(file, row, root) for row in rows], [ids[row.label] for row in rows])


def _locate(file: Path, row: Row, root: Path) -> Path:
    folder = file.expanduser().parent
    for path in (folder / row.path, root / row.path):  # an absolute path stays what it is
        if path.is_file():
            return path
    raise DataError(
        f"{file}, line {row.line}: there is no file {row.path!r} in {folder} nor in {root}; mend the line, "
        "or type data.root=FOLDER with the folder where the paths start."
    )


def _shown(classes: tuple[str, ...]) -> str:
    return ", ".join(classes) if len(classes) <= 6 else f"{classes[0]}, {classes[1]}, ..., {classes[-1]}"
