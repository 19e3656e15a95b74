"""Millions of image files and their labels as a few arrays, kept in a file that processes map and share."""

import hashlib
import os
from collections.abc import Mapping
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from deitlt.data.images import Labels, decode
from deitlt.data.slices import Bytes, Positions
from deitlt.errors import DataError

FORMAT = "deitlt file index 1"
_NAMES_END = "\n"
_DTYPES: dict[str, np.dtype[Any]] = {
    "paths": np.dtype(np.uint8),
    "borders": np.dtype(np.int64),
    "labels": np.dtype(np.int32),
}


class FileTable(NamedTuple):
    """What a list says.

    paths: [B] bytes of all paths, one behind the other. borders: [N + 1], path i is
    ``paths[borders[i]:borders[i + 1]]``. labels: [N] int32, the list's own. names: a name for each label
    from 0 on, or () where the list tells none.
    """

    paths: Bytes
    borders: Positions
    labels: npt.NDArray[np.int32]
    names: tuple[str, ...]


class FileIndex:
    """A table of files that processes share: mapped from its file or, without one, held in memory.

    Pickled, for a worker that is spawned, it is the name of its file: nothing is copied.

    Args:
        table: the rows.
        file: where the table is mapped from; None where it is in memory alone.
        key: what the file was made of, as `save_index` got it.
    """

    def __init__(self, table: FileTable, file: Path | None = None, key: str = "") -> None:
        self.table = table
        self.file = file
        self.key = key
        self._bytes = table.paths.data  # sliced in a tenth of the time that an array takes

    def __len__(self) -> int:
        return len(self.table.labels)

    def path(self, row: int) -> str:
        """The path of a row, as the list has it."""
        borders = self.table.borders
        return os.fsdecode(bytes(self._bytes[borders[row] : borders[row + 1]]))

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays."""
        return sum(getattr(self.table, name).nbytes for name in _DTYPES)

    def __getstate__(self) -> dict[str, Any]:
        return {"file": self.file, "key": self.key, "table": self.table if self.file is None else None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        # The process that pickled it had checked the content.
        index = FileIndex(state["table"]) if state["file"] is None else open_index(state["file"], state["key"], False)
        if index is None:
            raise DataError(f"{state['file']} was changed while it was in use; start the command again.")
        self.__dict__.update(index.__dict__)


class IndexedImages:
    """The images of an index, decoded from their files when asked for.

    Args:
        index: the files.
        root: the folder at which their paths start; an absolute path stays what it is.
    """

    def __init__(self, index: FileIndex, root: str) -> None:
        self.index = index
        self.root = root

    @cached_property
    def labels(self) -> Labels:
        """Class ids, [N] int64."""
        return self.index.table.labels.astype(np.int64)

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, row: int) -> Image.Image:
        """The image, converted to RGB.

        Raises:
            DataError: the file cannot be decoded.
        """
        return decode(self.path(row))

    def path(self, row: int) -> str:
        """The file of image `row`."""
        return os.path.join(self.root, self.index.path(row))

    def __getstate__(self) -> dict[str, Any]:
        return {"index": self.index, "root": self.root}


def save_index(file: Path, table: FileTable, key: str, mode: int | None = None) -> None:
    """Writes a table as a safetensors file, whole or not at all.

    Args:
        file: its name.
        table: what to write.
        key: names what the table was made of, such as a list's digest.
        mode: who may read and write it, as of `os.chmod`; None for this user alone.

    Raises:
        OSError: the file cannot be written.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    arrays = {name: np.ascontiguousarray(getattr(table, name), dtype) for name, dtype in _DTYPES.items()}
    names = _NAMES_END.join(table.names)
    metadata = {"format": FORMAT, "key": key, "names": names, "digest": _digest(arrays, names)}
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        save_file(arrays, temporary, metadata)
        if mode is not None:
            with suppress(OSError):  # a file system that knows no modes
                temporary.chmod(mode)
        os.replace(temporary, file)
    except SafetensorError as error:  # what the system refused, in Rust's words
        raise OSError(str(error)) from error
    finally:
        temporary.unlink(missing_ok=True)


def open_index(file: Path, key: str, check: bool = True) -> FileIndex | None:
    """Maps an index into memory.

    Args:
        file: what `save_index` wrote.
        key: what the index must have been made of.
        check: whether to look at every byte; without, at names, kinds and sizes.

    Returns:
        The index; None where there is none of that key, or it is not whole and right.
    """
    try:
        # Torch's tensors lie in the mapped file; NumPy's would be copies.
        with safe_open(file, "pt") as content:
            metadata = content.metadata() or {}
            arrays = {name: content.get_tensor(name).numpy() for name in content.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, TypeError, RuntimeError):
        return None
    if metadata.get("format") != FORMAT or metadata.get("key") != key or not _has_shape(arrays):
        return None
    names = metadata.get("names", "")
    for array in arrays.values():
        array.flags.writeable = False
    table = FileTable(**arrays, names=tuple(names.split(_NAMES_END)) if names else ())
    if check and not (_is_sound(table) and metadata.get("digest") == _digest(arrays, names)):
        return None
    return FileIndex(table, file, key)


def _has_shape(arrays: Mapping[str, npt.NDArray[Any]]) -> bool:
    """Whether the arrays fit each other."""
    if {name: array.dtype for name, array in arrays.items()} != _DTYPES:
        return False
    if any(array.ndim != 1 for array in arrays.values()):
        return False
    borders = arrays["borders"]
    return len(borders) == len(arrays["labels"]) + 1 and borders[0] == 0 and borders[-1] == len(arrays["paths"])


def _is_sound(table: FileTable) -> bool:
    """Whether every row has a path and a label."""
    return bool((np.diff(table.borders) > 0).all() and (table.labels >= 0).all())


def _digest(arrays: Mapping[str, npt.NDArray[Any]], names: str) -> str:
    digest = hashlib.blake2b(names.encode(errors="surrogateescape"), digest_size=16)
    for name in sorted(_DTYPES):
        digest.update(arrays[name].data)
    return digest.hexdigest()
