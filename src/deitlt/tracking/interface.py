"""What a stage's loggers have in common beside Lightning's own interface, whatever program shows what they record."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

from lightning.pytorch.loggers import Logger

Value = TypeVar("Value")


@dataclass(frozen=True)
class StageNames:
    """How a stage is called.

    stage: its name. folder: where its files go; its parent is the run's. group: what the stages of a run, or all jobs
    of a sweep, have in common.
    """

    stage: str
    folder: Path
    group: str

    @property
    def run(self) -> str:
        """The run's name, which its stages share; of a sweep's job with the sweep's before it."""
        job = self.folder.parent.name
        return self.group if self.group.endswith(job) else f"{self.group}-{job}"


@dataclass(frozen=True)
class Begin:
    """Where in a stage a logger takes it up.

    step: the first global step that is still to be logged. resumes: whether what was logged of this and later steps
    will be logged again, and is to be there once.
    """

    step: int = 0
    resumes: bool = False


@runtime_checkable
class StageLogger(Protocol):
    """A logger that holds more than curves. One of the user's own that has these methods gets the same.

    The first rank alone calls them. What they raise is warned about, and training goes on.
    """

    def add_summary(self, values: Mapping[str, float]) -> None:
        """Numbers that belong to the stage as a whole, such as 'final/avg/all'."""

    def add_pictures(self, pictures: Mapping[str, Path]) -> None:
        """Name, such as 'pictures/views' -> a PNG file."""

    def add_table(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """A table, such as 'confusions'; the first row's keys are the columns, None is an empty cell."""

    def finish(self, exit_code: int) -> None:
        """Close the stage's record, as failed where the exit code is not 0."""


def called(logger: Logger | StageLogger) -> str:
    """What a logger's program is called, for a sentence."""
    return str(getattr(logger, "program", type(logger).__name__))


class OncePerStep:
    """The names that were logged of the latest step: an epoch's row comes before its checkpoint, then again."""

    def __init__(self) -> None:
        self.step, self._names = 0, set[str]()

    def new(self, metrics: Mapping[str, Value], step: int) -> dict[str, Value]:
        """Those of the metrics that were not logged of this step yet; from now on they were."""
        if step != self.step:
            self.step, self._names = step, set()
        found = {name: value for name, value in metrics.items() if name not in self._names}
        self._names |= found.keys()
        return found
