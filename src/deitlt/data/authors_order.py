"""The authors' order of classes, ties included: NumPy's plain quicksort of the negated training counts."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

_SMALL = 15  # a part whose ends are no further apart is sorted by insertion


def quicksort_order(keys: Sequence[int]) -> npt.NDArray[np.int64]:
    """The order, [C], that sorts the keys as `numpy.argsort` does without vector instructions.

    The authors sort classes by ``np.argsort(-counts)``, which is not stable: which of two classes with
    equally many images comes first follows from the steps of the algorithm. NumPy up to 1.24 takes one
    algorithm on every machine, written here anew: introsort with the median of three, insertion up to 16
    keys, and heapsort where the parts stay too large. From NumPy 1.25 on, processors with AVX-512 (and,
    from 2.0 on, AVX2) get other algorithms, and each orders ties in its own way. So this is what the
    authors' code gives with an older NumPy or on another processor; a checkpoint that was trained after
    another order shows it by the accuracy of chance, and needs its order in a file.

    Args:
        keys: [C], sorted from the smallest to the largest.
    """
    order = list(range(len(keys)))
    waiting = [(0, len(keys) - 1, 2 * (len(keys).bit_length() - 1))]
    while waiting:
        low, high, depth = waiting.pop()
        if depth < 0:
            _heap_sort(keys, order, low, high)
            continue
        while high - low > _SMALL:
            middle = _partition(keys, order, low, high)
            depth -= 1
            if middle - low < high - middle:
                waiting.append((middle + 1, high, depth))
                high = middle - 1
            else:
                waiting.append((low, middle - 1, depth))
                low = middle + 1
        _insertion_sort(keys, order, low, high)
    return np.array(order, dtype=np.int64)


def _partition(keys: Sequence[int], order: list[int], low: int, high: int) -> int:
    """Puts what is smaller than the median of three before it; returns the median's place."""
    middle = low + (high - low) // 2
    for a, b in ((low, middle), (middle, high), (low, middle)):
        if keys[order[b]] < keys[order[a]]:
            order[a], order[b] = order[b], order[a]
    pivot = keys[order[middle]]
    order[middle], order[high - 1] = order[high - 1], order[middle]
    left, right = low, high - 1
    while True:
        left += 1
        while keys[order[left]] < pivot:
            left += 1
        right -= 1
        while pivot < keys[order[right]]:
            right -= 1
        if left >= right:
            break
        order[left], order[right] = order[right], order[left]
    order[left], order[high - 1] = order[high - 1], order[left]
    return left


def _insertion_sort(keys: Sequence[int], order: list[int], low: int, high: int) -> None:
    # Insertion is stable, as Python's own sort is, so the two agree.
    order[low : high + 1] = sorted(order[low : high + 1], key=keys.__getitem__)


def _heap_sort(keys: Sequence[int], order: list[int], low: int, high: int) -> None:
    heap = order[low : high + 1]
    for root in reversed(range(len(heap) // 2)):
        _sift_down(keys, heap, root, len(heap))
    for size in reversed(range(1, len(heap))):
        heap[0], heap[size] = heap[size], heap[0]
        _sift_down(keys, heap, 0, size)
    order[low : high + 1] = heap


def _sift_down(keys: Sequence[int], heap: list[int], root: int, size: int) -> None:
    """Moves a heap's root down to its place among the first `size` entries; the largest key is on top."""
    moved = heap[root]
    while (child := 2 * root + 1) < size:
        if child + 1 < size and keys[heap[child]] < keys[heap[child + 1]]:
            child += 1
        if not keys[moved] < keys[heap[child]]:
            break
        heap[root] = heap[child]
        root = child
    heap[root] = moved
