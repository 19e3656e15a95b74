"""Data sets that are published as lists: ImageNet-LT, Places-LT, iNaturalist-2018, and any that has lists alike.

A list is a text file with a line `path label` for each image, or the JSON of the iNaturalist competition of 2018.
"""

import json
import re
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from deitlt.data.datasets import DataRequest, DatasetSpec, DataSplits, register_dataset
from deitlt.data.images import FileImages
from deitlt.errors import ConfigError, DataError
from deitlt.transforms import IMAGENET
from deitlt.types import Normalisation

INAT18_NORMALISATION = Normalisation(mean=(0.466, 0.471, 0.380), std=(0.195, 0.194, 0.192))
YEAR = 2018  # of the iNaturalist competition
LINE = re.compile(rb"(?:\./(?!/))*([^\x00-\x1f]*[^\x00-\x20])[ \t]+([0-9]{1,9})")  # a path, blanks, a label
HEADER = re.compile(rb'#?[ \t]*[A-Za-z_"-]+([ \t,;]+[A-Za-z_"-]+)+')  # such as 'path label': no dot, slash or digit
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
Entries = list[dict[str, Any]]
Names = tuple[str, ...]


class Listing(NamedTuple):
    """What a list says.

    paths: of the N images, as bytes. labels: [N] int64, the list's own. names: a name for each label from 0 on, or ()
    where the list tells none.
    """

    paths: list[bytes]
    labels: npt.NDArray[np.int64]
    names: Names


def read_lists(train: Names, test: Names, request: DataRequest) -> DataSplits:
    """Open the images of a training and of a test list; the files that they name are not looked for.

    The training list says what the classes are: its labels are 0..C-1, each with an image. Paths start at the request's
    root.

    Args:
        train: names under which the training list is published; the first that is there is taken.
        test: the same of the test list.
        request: root, and the lists where the user named them.

    Raises:
        ConfigError: a list is neither named nor published.
        DataError: a list is not there, or not as it should be, or both list the same images, or a held-out one is
            trained on.
    """
    root = request.root.expanduser()
    train_file = _find("train", request.train_list, train, root)
    test_file = _find("test", request.test_list, test, root)
    trained, tested = read_list(train_file), read_list(test_file)
    if trained.paths == tested.paths:
        raise DataError(
            f"The training list {train_file} and the test list {test_file} name the same images, and accuracy on "
            "training images tells nothing; type data.test_list=FILE with the list of the test images."
        )
    num_classes = _count_classes(train_file, trained)
    _refuse_unknown(test_file, tested, num_classes)
    names = trained.names or tuple(map(str, range(num_classes)))
    images, test_images = (FileImages(listing.paths, listing.labels, str(root)) for listing in (trained, tested))
    if request.val_list is None:
        return DataSplits(images, test_images, names)
    val_file = request.val_list.expanduser()
    held_out = read_list(val_file)
    _refuse_unknown(val_file, held_out, num_classes)
    if shared := set(held_out.paths) & set(trained.paths):
        path = min(shared).decode(errors="replace")
        raise DataError(
            f"{val_file} holds out {path!r}, on which {train_file} trains ({len(shared):,} such images); type "
            "data.val_list=FILE with a list of other images, or data.val_list=null data.val_fraction=0.1."
        )
    return DataSplits(images, test_images, names, val=FileImages(held_out.paths, held_out.labels, str(root)))


def read_list(file: Path) -> Listing:
    """Read one list: text, or JSON where its name ends so.

    Raises:
        DataError: it cannot be read, or is not as it should be.
    """
    try:
        content = file.read_bytes()
    except OSError as error:
        raise DataError(
            f"The list {file} cannot be read ({error.strerror}); type data.train_list=FILE data.test_list=FILE with "
            "the files that list the training and the test images, or data.val_list=FILE with those held out."
        ) from error
    return parse_inat_json(file, content) if file.suffix.lower() == ".json" else parse_text(file, content)


def parse_text(file: Path, content: bytes) -> Listing:
    """Read lines `path label`.

    The path may itself hold spaces; its leading ``./`` is left out. Empty lines, blanks at a line's end, Windows's line
    ends and a byte order mark are passed over. Classes are named by their folders, where each has one of its own.

    Args:
        file: its name, for errors.
        content: its bytes.

    Raises:
        DataError: the list is empty, or has a line that is no line, a negative label, or one path twice.
    """
    paths: list[bytes] = []
    labels: list[int] = []
    lines: list[int] = []
    for number, line in enumerate(content.removeprefix(BYTE_ORDER_MARK).split(b"\n"), start=1):
        text = line.rstrip(b" \t\r")
        if not text:
            continue
        if (found := LINE.fullmatch(text)) is None:
            raise DataError(_refusal(file, number, text, is_first=not paths))
        paths.append(found[1])
        labels.append(int(found[2]))
        lines.append(number)
    if not paths:
        raise DataError(f"{file} lists no image; give it a line 'path label' for each image.")
    if (twice := _first_repeat(paths)) is not None:
        first, second = (lines[row] for row in twice)
        path = paths[twice[0]].decode(errors="replace")
        raise DataError(f"{file} lists {path!r} twice, in the lines {first} and {second}; remove one of them.")
    return Listing(paths, np.array(labels, dtype=np.int64), folder_names(paths, labels))


def folder_names(paths: Sequence[bytes], labels: Sequence[int]) -> Names:
    """The classes' names by their folders, as short as they are unique.

    Args:
        paths: of N images.
        labels: [N].

    Returns:
        C names; () where the labels have gaps, a class has images in two folders, two classes share one, an image lies
        in none, or a name is not in UTF-8.
    """
    folders: dict[int, bytes] = {}
    for path, label in zip(paths, labels, strict=True):
        folder = path.rpartition(b"/")[0]
        if not folder or folders.setdefault(label, folder) != folder:
            return ()
    if set(folders) != set(range(len(folders))) or len(set(folders.values())) < len(folders):
        return ()
    try:
        return short_names([folders[label].decode() for label in range(len(folders))])
    except UnicodeDecodeError:
        return ()


def short_names(folders: Sequence[str]) -> Names:
    """Each folder by the fewest of its last parts that no other folder ends with.

    Places-LT has ``a/apartment_building/outdoor`` beside ``c/cabin/outdoor``, so the last part alone will not do.
    """
    parts = [folder.split("/") for folder in folders]
    names = [""] * len(folders)
    length = 1
    while unnamed := [i for i, name in enumerate(names) if not name]:
        endings = ["/".join(part[-length:]) for part in parts]
        seen = Counter(endings)
        for i in unnamed:
            if seen[endings[i]] == 1 or length >= len(parts[i]):
                names[i] = endings[i]
        length += 1
    return tuple(names)


def parse_inat_json(file: Path, content: bytes) -> Listing:
    """Read train2018.json or val2018.json of the iNaturalist competition: `images`, `annotations` and `categories`.

    A category's id is its label, and its name the class's; images keep the order of the file.

    Args:
        file: its name, for errors.
        content: its bytes.

    Raises:
        DataError: it is no such file, is of another year, lists no image, or is at odds with itself.
    """
    annotated = _load_json(file, content)
    _refuse_other_years(file, annotated)
    images, annotations, categories = (_entries(file, annotated, k) for k in ("images", "annotations", "categories"))
    if not images:
        raise DataError(f"{file} lists no image; name the whole file that the competition published.")
    try:
        counts = Counter(entry["image_id"] for entry in annotations)
        if (twice := next((e["file_name"] for e in images if counts[e["id"]] > 1), None)) is not None:
            raise DataError(
                f"{file} gives the image {twice!r} more than one annotation; leave it the one of its class."
            )
        label_of = {entry["image_id"]: entry["category_id"] for entry in annotations}
        pairs = [(entry["file_name"].encode(), label_of[entry["id"]]) for entry in images]
        # A lone half of a surrogate pair is no text that a file could hold.
        names = {entry["id"]: str(entry["name"]).encode(errors="replace").decode() for entry in categories}
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise DataError(
            f"{file} has an image without file_name or annotation, or a category without name ({error}); "
            "name the whole file that the competition published."
        ) from error
    _check_pairs(file, pairs, names)
    told = tuple(names[i].replace("\n", " ") for i in range(len(names)))
    labels = np.array([label for _, label in pairs], dtype=np.int64)
    return Listing([path for path, _ in pairs], labels, told if len(set(told)) == len(told) else ())


def _load_json(file: Path, content: bytes) -> dict[str, Any]:
    try:
        annotated = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file} is no JSON file ({error}); name train2018.json or val2018.json.") from error
    if not isinstance(annotated, dict):
        raise DataError(f"{file} has no images and annotations; name train2018.json or val2018.json.")
    return annotated


def _refuse_other_years(file: Path, annotated: dict[str, Any]) -> None:
    """Raise DataError where the file says that it is of another competition."""
    info = annotated.get("info")
    info = info if isinstance(info, dict) else {}
    years = re.findall(r"20\d\d", str(info.get("year") or "") or str(info.get("description") or ""))
    if years and str(YEAR) not in years:
        raise DataError(
            f"{file} is of the iNaturalist competition of {years[0]}, as its info says, and inat18 is that of {YEAR}; "
            "name train2018.json and val2018.json."
        )


def _entries(file: Path, annotated: dict[str, Any], key: str) -> Entries:
    entries = annotated.get(key)
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise DataError(f"{file} has no list {key!r} of entries; name train2018.json or val2018.json.")
    return entries


def _check_pairs(file: Path, pairs: list[tuple[bytes, Any]], names: dict[Any, str]) -> None:
    """Raise DataError where images and categories do not fit, or an image has no name or one that another has."""
    if set(names) != set(range(len(names))):
        gap = next(i for i in range(len(names)) if i not in names)
        raise DataError(f"{file} has {len(names)} categories, but none of the id {gap}; their ids must run from 0.")
    if strange := next((path for path, label in pairs if type(label) is not int or label not in names), None):
        raise DataError(f"{file} gives {strange.decode()!r} a category_id that is none of its {len(names)} categories.")
    if (empty := next((i for i, (path, _) in enumerate(pairs) if not path), None)) is not None:
        raise DataError(f"{file} has an image with an empty file_name, number {empty} of its images; mend it.")
    if (twice := _first_repeat([path for path, _ in pairs])) is not None:
        raise DataError(f"{file} lists {pairs[twice[0]][0].decode()!r} twice; remove one of the two images.")


def _first_repeat(paths: Sequence[bytes]) -> tuple[int, int] | None:
    """The places of two equal paths, the second as early as there is one; None where all differ."""
    if len(set(paths)) == len(paths):
        return None
    seen: dict[bytes, int] = {}
    return next((first, row) for row, path in enumerate(paths) if (first := seen.setdefault(path, row)) != row)


def _refusal(file: Path, line: int, content: bytes, is_first: bool) -> str:
    """Why a line cannot be read."""
    text, words = content[:100].decode(errors="replace"), content.split()
    if len(words) > 1 and words[-1][:1] == b"-" and words[-1][1:].isdigit():
        return f"{file}, line {line}: the label {words[-1].decode()} is negative; number the classes from 0."
    if is_first and HEADER.fullmatch(content):
        return (
            f"{file}, line {line}: {text!r} is a header, and a list has none, only lines 'path label', such as "
            "'train/cat/1.jpg 0'; remove it."
        )
    return f"{file}, line {line}: {text!r} is no line 'path label', such as 'train/cat/1.jpg 0'; mend or remove it."


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


def _count_classes(file: Path, listing: Listing) -> int:
    """The number of classes of a training list, whose labels must have no gap."""
    present = np.unique(listing.labels)
    gaps = np.flatnonzero(present != np.arange(len(present)))
    if len(gaps):
        raise DataError(
            f"{file} lists no image of the label {gaps[0]}, though its labels go up to {present[-1]}; number the "
            "classes from 0 without gaps."
        )
    return len(present)


def _refuse_unknown(file: Path, listing: Listing, num_classes: int) -> None:
    """Raise DataError where another list has a label that the training list lacks."""
    strange = np.flatnonzero(listing.labels >= num_classes)
    if len(strange):
        row = int(strange[0])
        path = listing.paths[row].decode(errors="replace")
        raise DataError(
            f"{file} gives {path!r} the label {listing.labels[row]}, which the training list lacks: its labels are 0 "
            f"to {num_classes - 1}; name two lists of one data set by data.train_list=FILE data.test_list=FILE."
        )


def _register(
    name: str,
    published: tuple[Names, Names],
    cuts: tuple[int, int] | None,
    description: str,
    normalisation: Normalisation = IMAGENET,
    **images: int,
) -> None:
    read = partial(read_lists, *published)
    known: dict[tuple[str, float | None], int] = {(split, None): count for split, count in images.items()}
    register_dataset(
        DatasetSpec(name, read, 224, normalisation, cuts, description, class_order="count", published=known)
    )


_register(
    "imagenet_lt",
    (("ImageNet_LT_train.txt",), ("ImageNet_LT_test.txt",)),
    (390, 835),
    "ImageNet-LT: 115,846 training images of 1,000 classes, from the published lists",
    train=115_846,
    val=20_000,
    test=50_000,
)
_register(
    "places_lt",
    (("Places_LT_train.txt",), ("Places_LT_test.txt",)),
    None,
    "Places-LT: 62,500 training images of 365 scenes, from the published lists",
    train=62_500,
    val=7_300,
    test=36_500,
)
_register(
    "inat18",
    (("iNaturalist18_train.txt", "train2018.json"), ("iNaturalist18_val.txt", "val2018.json")),
    (842, 4543),
    "iNaturalist-2018: 437,513 training images of 8,142 species",
    INAT18_NORMALISATION,
    train=437_513,
    test=24_426,
)
_register("lists", ((), ()), None, "any two lists of your own, a line 'path label' for each image")
