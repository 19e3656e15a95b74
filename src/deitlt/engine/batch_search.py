"""The largest batch that fits: a straight line through measured steps, then one real step to be sure.

Lightning's BatchSizeFinder does not serve: it doubles the batch, whatever that makes of the images of an update,
it refuses distributed strategies, and where memory ends without an exception, as on a CPU, it finds no end.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch

STRAIGHT = 0.01  # by so much of it a step's memory may miss the line through the two before it

Measure = Callable[[int], int]  # images -> bytes of a step with so many


@dataclass(frozen=True)
class FoundBatch:
    """What was found: images of a batch, the bytes that its step takes, and the bytes that are free for a device."""

    images: int
    taken: int
    free: int

    def __str__(self) -> str:
        return (
            f"{self.images} images for each device at once were found to fit: a step's tensors take "
            f"{gib(self.taken)} of the {gib(self.free)} that are free"
        )


@dataclass(frozen=True)
class Line:
    """Memory as a function of the batch: fixed + per_image * images, in bytes."""

    fixed: float
    per_image: float

    @staticmethod
    def through(few: tuple[int, int], more: tuple[int, int]) -> "Line":
        """The line through two points (images, bytes)."""
        per_image = (more[1] - few[1]) / (more[0] - few[0])
        return Line(few[1] - per_image * few[0], per_image)

    def at(self, images: int) -> int:
        """Bytes of so many images."""
        return round(self.fixed + self.per_image * images)


def candidates(images_per_update: int, devices: int, most: int) -> list[int]:
    """Batches that make a device's share of an update in whole micro-batches, the largest first.

    Args:
        images_per_update: over all devices.
        devices: that share them.
        most: images that one device gets to see in an epoch; a batch cannot be larger.
    """
    share = images_per_update // devices
    return [images for images in range(min(share, most), 0, -1) if share % images == 0]


def search(sizes: Sequence[int], measure: Measure, free: int, margin: float, is_run: bool) -> FoundBatch | None:
    """The largest size whose step fits into the free memory but for the margin.

    Args:
        sizes: candidates, the largest first.
        measure: images -> bytes of a step.
        free: bytes that there are.
        margin: share of them that is to be left alone.
        is_run: whether the step of the chosen size is run, and a smaller one taken where it does not fit; else the
            line decides alone.

    Returns:
        What was found; None where not even the smallest size fits.
    """
    usable = (1 - margin) * free
    line = _line(sizes[0], measure)
    for images in sizes:
        if line is None or line.at(images) > usable:
            continue
        taken = _measured(images, measure) if is_run else line.at(images)
        if taken is not None and taken <= usable:
            return FoundBatch(images, taken, free)
    return None


def gib(amount: int) -> str:
    """Bytes in words."""
    return f"{amount / 2**30:.3g} GiB"


def _line(largest: int, measure: Measure) -> Line | None:
    """Memory by the number of images; None where not even one fits.

    The batch is doubled until three steps lie on a line and what grows is at least as much as what does not: with
    few images the peak may be elsewhere, where old gradients are still held, say, and grow with them less.
    """
    points: list[tuple[int, int]] = []
    for images in _doubled(largest):
        if (taken := _measured(images, measure)) is None:
            break
        points.append((images, taken))
        if len(points) > 2 and _is_settled(points):
            break
    if len(points) > 1:
        return Line.through(*points[-2:])
    one = points[0][1] if points and points[0][0] == 1 else _measured(1, measure)
    return None if one is None else Line(0, one)


def _is_settled(points: Sequence[tuple[int, int]]) -> bool:
    images, taken = points[-1]
    line = Line.through(*points[-3:-1])
    return abs(line.at(images) - taken) <= STRAIGHT * taken and line.per_image * images >= line.fixed


def _doubled(largest: int) -> Iterator[int]:
    """2, 4, 8, ... and at last the largest; BatchNorm may want more than one image."""
    images = 2
    while images < largest:
        yield images
        images *= 2
    yield largest


def _measured(images: int, measure: Measure) -> int | None:
    try:
        return measure(images)
    except torch.OutOfMemoryError:
        return None
