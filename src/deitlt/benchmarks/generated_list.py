"""A list of image files such as iNaturalist-2018's, of any length; the files themselves need not exist."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

CLASSES, SMALLEST_SHARE = 8142, 0.01  # iNaturalist-2018's classes, and a tail about as long
_HEX = np.frombuffer(b"0123456789abcdef", np.uint8)
_NAME = 32  # hexadecimal digits of a file's name


def write_list(file: Path, rows: int) -> None:
    """A list as long-tailed, and with paths as long, as iNaturalist-2018's.

    Args:
        file: where to write it.
        rows: lines, a file each; with fewer than there are classes, each has a class of its own.
    """
    stream = np.random.default_rng(0)
    with file.open("wb") as text:
        for label, count in enumerate(class_sizes(rows).tolist()):
            text.write(_lines(label, count, stream).tobytes())


def class_sizes(rows: int) -> npt.NDArray[np.int64]:
    """Files of each class, [C], falling exponentially, each at least one; they sum to `rows`."""
    classes = min(CLASSES, rows)
    shares = SMALLEST_SHARE ** np.linspace(0, 1, classes)
    counts: npt.NDArray[np.int64] = 1 + ((rows - classes) * shares / shares.sum()).astype(np.int64)
    counts[0] += rows - counts.sum()
    return counts


def _lines(label: int, count: int, stream: np.random.Generator) -> npt.NDArray[np.uint8]:
    """The lines of one class, [count, L] bytes: all have one length."""
    before = np.frombuffer(f"train_val2018/Actinopterygii/{label}/".encode(), np.uint8)
    after = np.frombuffer(f".jpg {label}\n".encode(), np.uint8)
    digits = np.frombuffer(stream.bytes(count * _NAME), np.uint8).reshape(count, _NAME) & 15
    lines = np.empty((count, len(before) + _NAME + len(after)), np.uint8)
    lines[:, : len(before)] = before
    lines[:, len(before) : -len(after)] = _HEX[digits]
    lines[:, -len(after) :] = after
    return lines
