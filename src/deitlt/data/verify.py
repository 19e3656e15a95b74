"""Finds image files that cannot be decoded before a long training finds them."""

import os
from collections.abc import Callable, Sequence
from multiprocessing.pool import ThreadPool

import numpy as np

from deitlt.data.sources import FileSource, ImageSource, Relabelled, Subset, decode
from deitlt.errors import DataError

_AT_ONCE = 2**14


def find_broken(source: ImageSource) -> list[str]:
    """Decodes the file of every image, on all cores, and returns the broken ones.

    Returns:
        The paths that cannot be decoded, each once, sorted; none for a source without files.
    """
    path = path_of(source)
    if path is None:
        return []
    broken: set[str] = set()
    with ThreadPool(os.cpu_count()) as pool:  # threads suffice: Pillow decodes outside Python's lock
        for first in range(0, len(source), _AT_ONCE):  # all names at once would be gigabytes for ten million files
            files = [path(i) for i in range(first, min(first + _AT_ONCE, len(source)))]
            found = pool.imap(_is_broken, files, chunksize=32)
            broken.update(file for file, is_broken in zip(files, found, strict=True) if is_broken)
    return sorted(broken)


def require_sound(sources: Sequence[ImageSource]) -> None:
    """Raises DataError where a file of the sources cannot be decoded: names the first one."""
    for source in sources:
        if broken := find_broken(source):
            others = f", nor can {len(broken) - 1} more" if len(broken) > 1 else ""
            raise DataError(
                f"{broken[0]} cannot be decoded as an image{others}; replace it, "
                "or type data.on_broken=skip to go on without such files."
            )


def drop(source: ImageSource, paths: list[str]) -> ImageSource:
    """The source without the images of these files, in unchanged order."""
    unwanted = set(paths)
    kept = [i for i, path in enumerate(_paths(source)) if path not in unwanted]
    return Subset(source, np.array(kept, dtype=np.int64)) if unwanted else source


def _paths(source: ImageSource) -> list[str]:
    """The file of each image, [] for a source without files."""
    path = path_of(source)
    return [] if path is None else [path(i) for i in range(len(source))]


def path_of(source: ImageSource) -> Callable[[int], str] | None:
    """What tells the file of a source's image i; None for a source without files."""
    if isinstance(source, Relabelled):
        return path_of(source.source)
    if isinstance(source, Subset):
        path, indices = path_of(source.source), source.indices
        return None if path is None else lambda i: path(int(indices[i]))
    return source.path if isinstance(source, FileSource) else None


def _is_broken(path: str) -> bool:
    try:
        decode(path)
    except DataError:
        return True
    return False
