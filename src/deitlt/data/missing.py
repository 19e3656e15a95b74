"""Finds images that a list names and the disk lacks, all at once and before training."""

import os
from collections.abc import Sequence
from multiprocessing.pool import ThreadPool
from pathlib import Path

from deitlt.data.sources import ImageSource
from deitlt.data.verify import path_of
from deitlt.errors import DataError

_THREADS = 32  # a look takes milliseconds of waiting where the disk is on a network
_AT_ONCE = 2048
_SHOWN = 10


def find_missing(source: ImageSource) -> list[str]:
    """The files of a source that are not there, in its order; none for a source without files."""
    path = path_of(source)
    if path is None:
        return []

    def look(first: int) -> list[str]:
        files = (path(i) for i in range(first, min(first + _AT_ONCE, len(source))))
        return [file for file in files if not os.path.isfile(file)]

    with ThreadPool(_THREADS) as pool:
        return [file for found in pool.imap(look, range(0, len(source), _AT_ONCE)) for file in found]


def require_files(sources: Sequence[ImageSource], root: Path) -> None:
    """Raises DataError where a file of the sources is missing: with their number and the first ten.

    Args:
        sources: training, validation and test images.
        root: where their paths start, as the user gave it.
    """
    missing: list[str] = []
    for source in sources:
        found = find_missing(source)
        if found and len(found) == len(source):
            raise DataError(_other_layout(found[0], len(found), root))
        missing += found
    if missing:
        total = sum(map(len, sources))
        shown = ", ".join(missing[:_SHOWN]) + (", ..." if len(missing) > _SHOWN else "")
        raise DataError(
            f"{len(missing)} of the {total} listed images are missing ({shown}); put them there, or take them "
            "off the list and type data.train_list=FILE data.test_list=FILE."
        )


def _other_layout(file: str, count: int, root: Path) -> str:
    """Says what was expected and what is there, where none of a list's images was found."""
    if not root.is_dir():
        return f"data.root={root} is not a folder; type data.root=FOLDER with the folder where the listed paths start."
    below = os.path.relpath(file, root)
    there = sorted(entry.name + ("/" if entry.is_dir() else "") for entry in os.scandir(root))
    holds = ", ".join(there[:_SHOWN]) + (", ..." if len(there) > _SHOWN else "") if there else "nothing"
    return (
        f"None of {count} listed images is there: the list expects files such as {below} in data.root={root}, which "
        f"holds {holds}; type data.root=FOLDER with the folder that holds {Path(below).parts[0]}/."
    )
