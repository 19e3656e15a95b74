"""Looks for image files that are missing, locked or broken before training reads them."""

import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import NamedTuple

from deitlt.data.datasets import DataSplits
from deitlt.data.images import EncodedImages, ImageDataset, path_of, whole_of
from deitlt.errors import ConfigError, DataError

_THREADS = 32  # a look takes milliseconds of waiting where the disk is on a network
_AT_ONCE = 2048
_DECODED_AT_ONCE = 2**14
_SHOWN = 10


class Lacking(NamedTuple):
    """A file that cannot be opened: it is not there, or locked by its permissions or those of a folder above."""

    file: str
    locked: bool


def find_missing(source: ImageDataset) -> list[Lacking]:
    """The files of a source that are not there or may not be read, in its order; none for one without such files."""
    path = path_of(source)
    if path is None or isinstance(whole_of(source), EncodedImages):
        return []

    def look(first: int) -> list[Lacking]:
        files = (path(i) for i in range(first, min(first + _AT_ONCE, len(source))))
        return [lacking for file in files if (lacking := _look(file)) is not None]

    with ThreadPool(_THREADS) as pool:
        return [lacking for found in pool.imap(look, range(0, len(source), _AT_ONCE)) for lacking in found]


def require_files(sources: Sequence[ImageDataset], root: Path) -> None:
    """Raises DataError where files of the sources are missing or locked: with their number and the first ten.

    Args:
        sources: training, validation and test images.
        root: where their paths start, as the user gave it.
    """
    lacking: list[Lacking] = []
    for source in sources:
        found = find_missing(source)
        if found and len(found) == len(source) and not any(file.locked for file in found):
            raise DataError(_other_layout(found[0].file, len(found), root))
        lacking += found
    if lacking:
        raise DataError(_refusal(lacking, sum(map(len, sources))))


def _look(file: str) -> Lacking | None:
    """What is wrong with a file, if anything is."""
    try:
        is_file = stat.S_ISREG(os.stat(file).st_mode)
    except PermissionError:  # a folder above it may not be entered
        return Lacking(file, locked=True)
    except (OSError, ValueError):  # a name that no file can have is a ValueError
        return Lacking(file, locked=False)
    if is_file and os.access(file, os.R_OK):
        return None
    return Lacking(file, locked=is_file)


def _refusal(lacking: list[Lacking], total: int) -> str:
    """Counts and names the files, and says what can be done about them."""
    locked = sum(file.locked for file in lacking)
    are, them = ("is", "it") if len(lacking) == 1 else ("are", "them")
    if locked == len(lacking):
        what, advice = "not readable by you", f"give yourself permission to read {them}"
    elif locked:
        what = "missing or not readable by you"
        advice = "put them there, give yourself permission to read them"
    else:
        what, advice = "missing", _backslashes(lacking[0].file) or f"put {them} there"
    mark = " (no permission)" if locked < len(lacking) else ""
    shown = _first([name + mark * is_locked for name, is_locked in lacking])
    return (
        f"{len(lacking)} of the {total} listed images {are} {what} ({shown}); {advice}, or take {them} "
        "off the list and type data.train_list=FILE data.test_list=FILE."
    )


def _other_layout(file: str, count: int, root: Path) -> str:
    """Says what was expected and what is there, where none of a list's images was found."""
    if not root.is_dir():
        return f"data.root={root} is not a folder; type data.root=FOLDER with the folder where the listed paths start."
    none = f"None of {count} listed images is there"
    below = Path(os.path.relpath(file, root))
    if slashes := _backslashes(str(below)):
        return f"{none}: the list names files such as {below}; {slashes}."
    if below.parts[0] == os.pardir:
        return f"{none}: files such as {file} do not lie in data.root={root}; mend the paths in the list."
    expected = f"{none}: the list expects files such as {below} in data.root={root}"
    if not (root / below.parts[0]).is_dir():
        first = below.parts[0] + ("/" if len(below.parts) > 1 else "")
        return f"{expected}, which holds {_content(root)}; type data.root=FOLDER with the folder that holds {first}."
    present = next(folder for folder in below.parents if (root / folder).is_dir())
    lacks = below.relative_to(present).parts[0] + ("" if present == below.parent else "/")
    return (
        f"{expected}, where {present}/ has no {lacks} and holds {_content(root / present)}; put the images where the "
        f"list has them, such as in {below.parent}/."
    )


def _backslashes(name: str) -> str:
    """What to do where a list was written on Windows; '' where that is not what is wrong."""
    return "write / for \\ in the list's paths" if "\\" in name and os.sep == "/" else ""


def _content(folder: Path) -> str:
    """The first names of a folder."""
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return "what you may not look at"
    shown = [name + "/" if os.path.isdir(folder / name) else name for name in names[: _SHOWN + 1]]
    return _first(shown) or "nothing"


def _first(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")


class Seen(NamedTuple):
    """An image file that was decoded. label: class id. size: width and height in pixels; None where it is broken."""

    label: int
    size: tuple[int, int] | None


SeenFiles = dict[str, Seen]  # by path


def decode_all(source: ImageDataset) -> SeenFiles:
    """Decodes the file of every image, on all cores; nothing of a source without files."""
    path = path_of(source)
    if path is None:
        return {}
    seen: SeenFiles = {}

    def size_of(index: int) -> tuple[int, int] | None:
        try:
            return source[index].size
        except DataError:
            return None

    with ThreadPool(os.cpu_count()) as pool:  # threads suffice: Pillow decodes outside Python's lock
        for first in range(0, len(source), _DECODED_AT_ONCE):  # ten million names would be gigabytes
            places = range(first, min(first + _DECODED_AT_ONCE, len(source)))
            files = [path(i) for i in places]
            labels = source.labels[first : first + len(files)].tolist()
            found = pool.imap(size_of, places, chunksize=32)
            seen.update({file: Seen(*one) for file, *one in zip(files, labels, found, strict=True)})
    return seen


def find_broken(source: ImageDataset) -> list[str]:
    """The paths that cannot be decoded, each once, sorted; none for a source without files."""
    return broken_of(decode_all(source))


def broken_of(seen: SeenFiles) -> list[str]:
    """The paths of the files that could not be decoded, sorted."""
    return sorted(path for path, one in seen.items() if one.size is None)


@dataclass(frozen=True)
class FileCheck:
    """Looks for every image file, and decodes each once.

    Args:
        on_broken: 'error' stops at an image that cannot be decoded, 'skip' goes on without it.
        verify: decode; else files are only looked for.

    Raises:
        ConfigError: the two do not go together.
    """

    on_broken: str = "error"
    verify: bool = True

    def __post_init__(self) -> None:
        if self.on_broken == "skip" and not self.verify:
            raise ConfigError("data.on_broken=skip has to look for broken files first; type data.verify=true with it.")

    def look(self, used: Sequence[ImageDataset], whole: Callable[[], DataSplits], root: Path) -> SeenFiles:
        """What was found of the files; nothing where they are only looked for.

        Args:
            used: training, validation and test images.
            whole: opens the data set as published: what is left out is left out before it is made long-tailed.
            root: where the files' paths start.

        Raises:
            DataError: files are missing.
        """
        require_files(used, root)
        if not self.verify:
            return {}
        if self.on_broken == "skip":
            published = whole()
            used = [source for source in (published.train, published.val, published.test) if source is not None]
        return {path: one for source in used for path, one in decode_all(source).items()}

    def left_out(self, seen: SeenFiles, listing: Path) -> list[str]:
        """The broken files, where they may be left out.

        Args:
            seen: what `look` found.
            listing: the file to write the names of broken ones to, where they are too many for a sentence.

        Raises:
            DataError: a file is broken, and that is an error.
        """
        broken = broken_of(seen)
        if not broken or self.on_broken == "skip":
            return broken
        more, them = "", "it" if len(broken) == 1 else "them"
        if len(broken) > _SHOWN:
            listing.parent.mkdir(parents=True, exist_ok=True)
            listing.write_text("".join(f"{file}\n" for file in broken), errors="surrogateescape")
            more = f", and {len(broken) - _SHOWN} more, all named in {listing},"
        raise DataError(
            f"{', '.join(broken[:_SHOWN])}{more} cannot be decoded as {'an image' if them == 'it' else 'images'}; "
            f"replace {them}, or type data.on_broken=skip to go on without {them}."
        )
