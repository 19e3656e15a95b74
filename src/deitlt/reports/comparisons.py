"""Two numbers of which one should be above the other, and which runs may be put beside which."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import mean

from deitlt.reports import measures
from deitlt.reports.evidence import Evidence
from deitlt.reports.nearest import Sides, nearest


@dataclass(frozen=True)
class Comparison:
    """One number that should be above (or below) another.

    what: of what, such as 'tail accuracy'. unit: after both. of: what several of the same are counted as. note: a
    sentence on the runs that were compared, or nothing.
    """

    what: str
    name: str
    value: float
    than_name: str
    than: float
    unit: str = " %"
    below: bool = False
    tie_holds: bool = False
    of: str = "runs"
    note: str = ""

    @property
    def ties(self) -> bool:
        """Whether the two numbers are equal as they are shown."""
        return value_text(self.value) == value_text(self.than)

    @property
    def holds(self) -> bool:
        """Whether it is as the paper says; two equal numbers are not, unless 'no worse' is all that is said."""
        if self.ties:
            return self.tie_holds
        return (self.value < self.than) == self.below


def value_text(value: float) -> str:
    """A number of a comparison as it is shown."""
    return f"{value:.1f}" if abs(value) >= 1 or value == 0 else f"{value:.2g}"


def alike(
    runs: Sequence[Evidence],
    has: Callable[[Evidence], bool | None],
    about: Sequence[str],
    part: str,
    stage: str = "student",
) -> Sides:
    """The runs that have something, and the nearest that have not, where a part was measured on the same images.

    A rank is at most the number of images, and test images are no training images. Of several samples that both sides
    have it is that of the most runs.

    Args:
        runs: of one data set.
        has: whether a run has it; None where nobody knows.
        about: how the keys begin that make the difference, such as 'teacher.sam.'.
        part: of an analysis.
        stage: whose analysis.
    """
    sides = [[run for run in runs if has(run) is wanted] for wanted in (True, False)]
    ours, theirs = ([measures.sample(run, stage, part) for run in side] for side in sides)
    shared = [sample for sample in ours if sample is not None and sample in theirs]
    chosen = max(shared, key=[*ours, *theirs].count, default=None)
    if chosen is None:
        return Sides([], [])
    first, second = ([run for run in side if measures.sample(run, stage, part) == chosen] for side in sides)
    return nearest(first, second, about)


def compare_means(
    what: str,
    name: str,
    ours: Sequence[float | None],
    than_name: str,
    theirs: Sequence[float | None],
    unit: str = " %",
    below: bool = False,
    note: str = "",
) -> Iterator[Comparison]:
    """The mean of some runs beside that of others, where both were measured."""
    a, b = [value for value in ours if value is not None], [value for value in theirs if value is not None]
    if a and b:
        yield Comparison(what, name, mean(a), than_name, mean(b), unit, below, note=note)
