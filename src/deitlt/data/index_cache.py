"""A list is parsed once: its index is kept beside it or, where nobody may write there, in the user's cache."""

import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from deitlt.data.file_index import FileIndex, FileTable, open_index, save_index
from deitlt.errors import DataError

ENDING = ".index.safetensors"

Parser = Callable[[Path, bytes], FileTable]


def cached_index(file: Path, parser: Parser, kind: str) -> FileIndex:
    """The index of a list, from its cache if that was made of this very content.

    Args:
        file: the list.
        parser: (file, content) -> table.
        kind: names the parser and its version: what one made is nothing to another.

    Raises:
        DataError: the list is not there or cannot be read, or the parser refuses it.
    """
    key = f"{kind} {_digest(file)}"
    for place in _places(file, key):
        if (index := open_index(place, key)) is not None:
            return index
    content = _read(file)
    key = f"{kind} {hashlib.sha256(content).hexdigest()}"
    table = parser(file, content)
    del content  # a long list would lie in memory beside its index
    return _keep(table, file, key)


def _keep(table: FileTable, file: Path, key: str) -> FileIndex:
    """The table mapped from the first place that takes it, or in memory where none does."""
    for place in _places(file, key):
        try:
            save_index(place, table, key, _mode(file) if place.parent == file.parent else None)
        except OSError:
            continue  # a folder that is read-only, a disk that is full
        if (index := open_index(place, key, check=False)) is not None:
            return index
    return FileIndex(table)


def _mode(file: Path) -> int:
    """Who may read and write the index beside a list: whoever may do so with the list, and its maker."""
    return stat.S_IMODE(file.stat().st_mode) & 0o666 | stat.S_IRUSR


def _places(file: Path, key: str) -> Iterator[Path]:
    """Where the index of a list may lie."""
    yield file.with_name(f"{file.name}{ENDING}")
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    yield Path(cache).expanduser() / "deitlt" / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}{ENDING}"


def _digest(file: Path) -> str:
    """What the file holds, in 64 characters; it is read in pieces."""
    try:
        with file.open("rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest()
    except OSError as error:
        raise DataError(_unreadable(file, error)) from error


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise DataError(_unreadable(file, error)) from error


def _unreadable(file: Path, error: OSError) -> str:
    return (
        f"The list {file} cannot be read ({error.strerror}); type data.train_list=FILE data.test_list=FILE with "
        "the files that list the training and the test images."
    )
