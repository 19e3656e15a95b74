"""The iNaturalist competition's annotations of 2018: train2018.json and val2018.json."""

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from deitlt.data.file_index import FileTable
from deitlt.data.slices import first_repeat
from deitlt.errors import DataError

KIND = "iNaturalist 2018 json 2"  # to be counted up whenever a file would be read differently
YEAR = 2018
Entries = list[dict[str, Any]]


def parse_inat_json(file: Path, content: bytes) -> FileTable:
    """Reads one of the competition's files: `images`, `annotations` and `categories`.

    A category's id is its label, and its name the class's; images keep the order of the file.

    Args:
        file: its name, for errors.
        content: its bytes.

    Raises:
        DataError: it is no such file, is of another year, lists no image, or is at odds with itself.
    """
    annotated = _read(file, content)
    _refuse_other_years(file, annotated)
    images, annotations, categories = (_entries(file, annotated, k) for k in ("images", "annotations", "categories"))
    if not images:
        raise DataError(f"{file} lists no image; name the whole file that the competition published.")
    try:
        _refuse_two_labels(file, images, annotations)
        label_of = {entry["image_id"]: entry["category_id"] for entry in annotations}
        pairs = [(entry["file_name"].encode(), label_of[entry["id"]]) for entry in images]
        # A lone half of a surrogate pair is no text that a file could hold.
        names = {entry["id"]: str(entry["name"]).encode(errors="replace").decode() for entry in categories}
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise DataError(
            f"{file} has an image without file_name or annotation, or a category without name ({error}); "
            "name the whole file that the competition published."
        ) from error
    return _table(file, pairs, names)


def _read(file: Path, content: bytes) -> dict[str, Any]:
    try:
        annotated = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file} is no JSON file ({error}); name train2018.json or val2018.json.") from error
    if not isinstance(annotated, dict):
        raise DataError(f"{file} has no images and annotations; name train2018.json or val2018.json.")
    return annotated


def _refuse_other_years(file: Path, annotated: dict[str, Any]) -> None:
    """Raises DataError where the file says that it is of another competition."""
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


def _refuse_two_labels(file: Path, images: Entries, annotations: Entries) -> None:
    """Raises DataError where an image has two annotations, so that its class would depend on their order."""
    counts = Counter(entry["image_id"] for entry in annotations)
    twice = next((entry["file_name"] for entry in images if counts[entry["id"]] > 1), None)
    if twice is not None:
        raise DataError(f"{file} gives the image {twice!r} more than one annotation; leave it the one of its class.")


def _table(file: Path, pairs: list[tuple[bytes, Any]], names: dict[Any, str]) -> FileTable:
    """The images' (path, label) as arrays, once the labels are known to be those of the categories."""
    if set(names) != set(range(len(names))):
        gap = next(i for i in range(len(names)) if i not in names)
        raise DataError(f"{file} has {len(names)} categories, but none of the id {gap}; their ids must run from 0.")
    if strange := next((path for path, label in pairs if type(label) is not int or label not in names), None):
        raise DataError(f"{file} gives {strange.decode()!r} a category_id that is none of its {len(names)} categories.")
    paths = np.frombuffer(b"".join(path for path, _ in pairs), np.uint8)
    borders = np.cumsum([0, *(len(path) for path, _ in pairs)], dtype=np.int64)
    if (empty := np.flatnonzero(np.diff(borders) == 0)).size:
        raise DataError(f"{file} has an image with an empty file_name, number {empty[0]} of its images; mend it.")
    if (twice := first_repeat(paths, borders)) is not None:
        raise DataError(f"{file} lists {pairs[twice[0]][0].decode()!r} twice; remove one of the two images.")
    labels = np.array([label for _, label in pairs], dtype=np.int32)
    told = tuple(names[i].replace("\n", " ") for i in range(len(names)))
    return FileTable(paths, borders, labels, told if len(set(told)) == len(told) else ())
