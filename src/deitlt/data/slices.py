"""Many byte strings as one array and their borders: compared and grouped without an object for each of them."""

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Positions = npt.NDArray[np.int64]

_FACTOR = np.uint64(0x9E3779B97F4A7C15)  # odd, so that a byte's weight never becomes 0 modulo 2**64
_SLASH = ord("/")
_AT_ONCE = 2**16  # slices looked at together: what they need lies in the processor's caches, however many there are


def gathered(text: Bytes, starts: Positions, stops: Positions) -> tuple[Bytes, Positions]:
    """The slices [start, stop) of a text, one behind the other.

    Args:
        text: [T] bytes.
        starts: [N], rising.
        stops: [N], each behind its start, and not behind the next start.

    Returns:
        Their bytes [B], and the borders [N + 1]: slice i is ``bytes[borders[i]:borders[i + 1]]``.
    """
    # One more where a slice begins, one less where it ends: the running sum is 1 inside.
    steps = np.zeros(len(text) + 1, dtype=np.int8)
    steps[starts] += 1
    steps[stops] -= 1
    inside = np.cumsum(steps[:-1], dtype=np.int8).view(np.bool_)
    return text[inside], np.concatenate([[0], np.cumsum(stops - starts)])


def hashes(text: Bytes, starts: Positions, stops: Positions) -> npt.NDArray[np.uint64]:
    """A 64-bit hash of each slice [start, stop), [N]: the polynomial of its bytes, each plus one."""
    found = np.zeros(len(starts), dtype=np.uint64)
    for first in range(0, len(starts), _AT_ONCE):
        rows = slice(first, first + _AT_ONCE)
        _add_hashes(found[rows], text, starts[rows], stops[rows])
    return found


def _add_hashes(found: npt.NDArray[np.uint64], text: Bytes, starts: Positions, stops: Positions) -> None:
    """Put the slices' hashes into `found`, [N] zeros."""
    lengths = stops - starts
    shortest = int(lengths.min(initial=np.iinfo(np.int64).max))
    for place in range(int(lengths.max(initial=0))):  # a step for each place in the slices, not for each slice
        rows = slice(None) if place < shortest else np.flatnonzero(lengths > place)
        found[rows] = found[rows] * _FACTOR + text[starts[rows] + place] + np.uint64(1)


def first_repeat(text: Bytes, borders: Positions) -> tuple[int, int] | None:
    """The places of two equal slices, the second as early as there is one; None where all differ."""
    found = hashes(text, borders[:-1], borders[1:])
    order = np.argsort(found, kind="stable")
    alike = np.flatnonzero(found[order][1:] == found[order][:-1])
    pairs = sorted((int(order[i + 1]), int(order[i])) for i in alike)
    for second, first in pairs:
        if np.array_equal(text[borders[first] : borders[first + 1]], text[borders[second] : borders[second + 1]]):
            return first, second
    return None


def class_folders(text: Bytes, borders: Positions, labels: npt.NDArray[np.integer]) -> list[str] | None:
    """The one folder of each class's files.

    Args:
        text: [B] bytes of the N paths.
        borders: [N + 1] of the paths in the text.
        labels: [N], each of 0..C-1 at least once.

    Returns:
        C folders such as ``train/n01440764``; None where a class has files in two folders, two classes
        share one, a file lies in none, or a name is not in UTF-8.
    """
    starts, last = borders[:-1], _last_slashes(text, borders)
    if (last <= starts).any():
        return None
    first = np.unique(labels, return_index=True)[1]
    found = hashes(text, starts, last)
    if (found != found[first][labels]).any() or len(set(found[first].tolist())) < len(first):
        return None
    try:
        return [text[starts[row] : last[row]].tobytes().decode() for row in first]
    except UnicodeDecodeError:
        return None


def _last_slashes(text: Bytes, borders: Positions) -> Positions:
    """Where the last slash of each path stands, [N]; -1 where it has none."""
    found = np.full(len(borders) - 1, -1, dtype=np.int64)
    for first in range(0, len(found), _AT_ONCE):
        edges = borders[first : first + _AT_ONCE + 1]
        slashes = np.flatnonzero(text[edges[0] : edges[-1]] == _SLASH) + edges[0]
        before = np.searchsorted(slashes, edges[1:])
        has_one = before > np.searchsorted(slashes, edges[:-1])
        found[first : first + _AT_ONCE][has_one] = slashes[before[has_one] - 1]
    return found


def short_names(folders: list[str]) -> tuple[str, ...]:
    """Each folder by the fewest of its last parts that no other folder ends with.

    Places-LT has ``a/apartment_building/outdoor`` beside ``c/cabin/outdoor``, so the last part alone will not do.
    """
    parts = [folder.split("/") for folder in folders]
    names = [""] * len(folders)
    length = 1
    while unnamed := [i for i, name in enumerate(names) if not name]:
        endings = ["/".join(part[-length:]) for part in parts]
        seen: dict[str, int] = {}
        for ending in endings:
            seen[ending] = seen.get(ending, 0) + 1
        for i in unnamed:
            if seen[endings[i]] == 1 or length >= len(parts[i]):
                names[i] = endings[i]
        length += 1
    return tuple(names)
