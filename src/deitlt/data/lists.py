"""Text files that list images: `path label` a line, as ImageNet-LT, Places-LT and iNaturalist-2018 are published."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from deitlt.data.file_index import FileTable
from deitlt.data.slices import Bytes, Positions, class_folders, first_repeat, gathered, short_names
from deitlt.errors import DataError

KIND = "list 2"  # to be counted up whenever a list would be read differently

_NEW_LINE, _SPACE, _TAB, _MINUS, _ZERO, _DOT, _SLASH = b"\n \t-0./"
_BLANKS = np.frombuffer(b" \t\r", np.uint8)
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_HEADER = re.compile(rb'#?[ \t]*[A-Za-z_"-]+([ \t,;]+[A-Za-z_"-]+)+')  # such as 'path label': no dot, slash or digit
_AT_ONCE = 2**24  # bytes that are read at a time, and the rest of their last line
_DIGITS = 9  # fits int32, and is more than there are classes
Flags = npt.NDArray[np.bool_]


def parse_list(file: Path, content: bytes) -> FileTable:
    """Reads a list.

    A line is a path, blanks and a label of digits; the path may itself hold spaces. Lines that are empty,
    blanks at a line's end and a byte order mark are passed over, and so Windows's line ends read as others.
    A path's leading ``./`` is left out. The classes are named by their folders, where each has one of its own.

    Args:
        file: its name, for errors.
        content: its bytes.

    Raises:
        DataError: the list is empty, or has a line that is no line, a negative label, or one path twice.
    """
    rows = _joined(_rows(file, text, line) for text, line in _blocks(content))
    if not len(rows.labels):
        raise DataError(f"{file} lists no image; give it a line 'path label' for each image.")
    paths, borders = rows.paths, rows.borders
    if (twice := first_repeat(paths, borders)) is not None:
        path = paths[borders[twice[0]] : borders[twice[0] + 1]].tobytes().decode(errors="replace")
        first, second = (int(rows.lines[row]) for row in twice)
        raise DataError(f"{file} lists {path!r} twice, in the lines {first} and {second}; remove one of them.")
    return FileTable(paths, borders, rows.labels, folder_names(paths, borders, rows.labels))


class _Rows(NamedTuple):
    """The images of some lines: as in `FileTable`, and the number of each one's line, [N], from 1 on."""

    paths: Bytes
    borders: Positions
    labels: npt.NDArray[np.int32]
    lines: Positions


def _blocks(content: bytes) -> Iterator[tuple[Bytes, int]]:
    """The list in blocks of whole lines, and the number of each block's first line.

    What reading needs beside the text is several times its size, so only some of it is read at a time.
    """
    start, line = len(_BYTE_ORDER_MARK) if content.startswith(_BYTE_ORDER_MARK) else 0, 1
    while start < len(content):
        stop = content.find(b"\n", start + _AT_ONCE) + 1 or len(content)
        yield np.frombuffer(content, np.uint8, stop - start, start), line
        line += content.count(b"\n", start, stop)
        start = stop


def _rows(file: Path, text: Bytes, first_line: int) -> _Rows:
    """The images of one block of lines; refuses a line that is none."""
    starts, stops = _lines(text)
    lines = np.flatnonzero(stops > starts)
    starts, stops = starts[lines], stops[lines]
    labels_at = _after_last_blank(text, starts, stops)
    path_stops = _trimmed(text, starts, labels_at)
    path_starts = _without_here(text, starts, path_stops)
    labels, readable = _numbers(text, labels_at, stops)
    readable &= (path_stops > path_starts) & ~_has_control(text, starts, path_stops)
    if not readable.all():
        row = int(np.argmin(readable))
        is_first = first_line == 1 and row == 0
        raise DataError(
            _refusal(file, int(lines[row]) + first_line, text[starts[row] : stops[row]].tobytes(), is_first)
        )
    return _Rows(*gathered(text, path_starts, path_stops), labels, lines + first_line)


def _joined(blocks: Iterable[_Rows]) -> _Rows:
    """The rows of all blocks, one behind the other."""
    found = list(blocks)
    lengths = [np.diff(rows.borders) for rows in found]
    return _Rows(
        paths=_concatenated([rows.paths for rows in found], np.uint8),
        borders=np.concatenate([[0], np.cumsum(_concatenated(lengths, np.int64))]),
        labels=_concatenated([rows.labels for rows in found], np.int32),
        lines=_concatenated([rows.lines for rows in found], np.int64),
    )


def _concatenated(arrays: list[npt.NDArray[Any]], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """The arrays one behind the other; there may be none."""
    return np.concatenate(arrays) if arrays else np.zeros(0, dtype)


def folder_names(paths: Bytes, borders: Positions, labels: npt.NDArray[np.int32]) -> tuple[str, ...]:
    """The classes' names by their folders; () where the labels have gaps, or a class has no folder of its own."""
    present = np.unique(labels)
    if int(present[-1]) + 1 != len(present):
        return ()
    folders = class_folders(paths, borders, labels)
    return () if folders is None else short_names(folders)


def _lines(text: Bytes) -> tuple[Positions, Positions]:
    """Where each line starts, and where it stops when blanks at its end are taken off."""
    ends = np.flatnonzero(text == _NEW_LINE)
    if len(text) and text[-1] != _NEW_LINE:
        ends = np.append(ends, len(text))
    starts = np.concatenate([[0], ends[:-1] + 1]) if len(ends) else ends
    return starts, _trimmed(text, starts, ends)


def _trimmed(text: Bytes, starts: Positions, stops: Positions) -> Positions:
    """The stops, moved to the left over blanks."""
    stops = stops.copy()
    rows = np.arange(len(stops))
    while len(rows):
        rows = rows[stops[rows] > starts[rows]]
        rows = rows[np.isin(text[stops[rows] - 1], _BLANKS)]
        stops[rows] -= 1
    return stops


def _without_here(text: Bytes, starts: Positions, stops: Positions) -> Positions:
    """The starts, moved to the right over ``./``, so that a file has one name; ``.//`` stays: it is no root."""
    starts = starts.copy()
    rows = np.arange(len(starts))
    while len(rows):
        rows = rows[stops[rows] - starts[rows] > 2]
        at = starts[rows]
        rows = rows[(text[at] == _DOT) & (text[at + 1] == _SLASH) & (text[at + 2] != _SLASH)]
        starts[rows] += 2
    return starts


def _after_last_blank(text: Bytes, starts: Positions, stops: Positions) -> Positions:
    """Where each line's last word starts; a line of one word has no path, and its start is the line's."""
    blanks = np.flatnonzero((text == _SPACE) | (text == _TAB))
    before = np.searchsorted(blanks, stops) - 1
    after = np.where(before >= 0, blanks[np.maximum(before, 0)] + 1, 0) if len(blanks) else np.zeros_like(starts)
    return np.maximum(after, starts)


def _numbers(text: Bytes, starts: Positions, stops: Positions) -> tuple[npt.NDArray[np.int32], Flags]:
    """The words [start, stop) as numbers, [N], and which of them are some."""
    lengths = stops - starts
    values = np.zeros(len(starts), dtype=np.int32)
    readable = (lengths >= 1) & (lengths <= _DIGITS)
    for place in range(int(lengths[readable].max(initial=0))):
        rows = np.flatnonzero(readable & (lengths > place))
        digits = text[starts[rows] + place].astype(np.int32) - _ZERO
        readable[rows] = (digits >= 0) & (digits <= 9)
        values[rows] = values[rows] * 10 + digits
    return values, readable


def _has_control(text: Bytes, starts: Positions, stops: Positions) -> Flags:
    """Which of the slices hold a control character."""
    controls = np.flatnonzero(text < _SPACE)
    return np.searchsorted(controls, stops) > np.searchsorted(controls, starts)


def _refusal(file: Path, line: int, content: bytes, is_first: bool) -> str:
    """Why a line cannot be read."""
    text = content[:100].decode(errors="replace")
    word = content.split()[-1]
    if len(content.split()) > 1 and word[:1] == bytes([_MINUS]) and word[1:].isdigit():
        return f"{file}, line {line}: the label {word.decode()} is negative; number the classes from 0."
    if is_first and _HEADER.fullmatch(content):
        return (
            f"{file}, line {line}: {text!r} is a header, and a list has none, only lines 'path label', such as "
            "'train/cat/1.jpg 0'; remove it."
        )
    return f"{file}, line {line}: {text!r} is no line 'path label', such as 'train/cat/1.jpg 0'; mend or remove it."
