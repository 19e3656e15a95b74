"""One host's ranks of a stage: a process tree that reads the stage's file, and says a user's mistake in another."""

import logging
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from deitlt.engine.meeting import Outcome
from deitlt.engine.process_tree import ProcessTree
from deitlt.engine.processes import without_ranks
from deitlt.errors import Preempted, TrainingError

_log = logging.getLogger(__name__)
STAGE_FILE, ERROR_FILE = "stage.yaml", "error.txt"
WARNING = "deitlt warns: "  # begins a rank's line that is ours, among those of libraries
# What torchrun and Slurm tell the process that they started is no news to the ranks that it starts itself.
OF_LAUNCHERS = ("TORCHELASTIC_", "LOCAL_WORLD_SIZE", "SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID", "SLURM_NTASKS")


class Ranks:
    """The processes of a stage on this host.

    Lightning starts all but the first, by running the first one's command again; so that command is the stage alone.

    Args:
        file: the stage's.
        variables: of the environment, for ranks on several hosts.
    """

    def __init__(self, file: Path, variables: Mapping[str, str] | None = None) -> None:
        self._error_file = file.with_name(ERROR_FILE)
        self._error_file.unlink(missing_ok=True)
        inherited = {key: value for key, value in without_ranks().items() if not key.startswith(OF_LAUNCHERS)}
        command = [sys.executable, "-m", "deitlt.engine.launching", str(file), str(os.getpid())]
        self._tree = ProcessTree(command, inherited | dict(variables or {}))

    def wait(self, look: Callable[[], None] | None = None) -> Outcome:
        """Wait for their end, as `ProcessTree.wait` does."""
        code = self._tree.wait(look)
        if not self._error_file.exists():
            return Outcome(code)
        said = self._error_file.read_text()
        self._error_file.unlink()
        return Outcome(code, said)

    @property
    def errors(self) -> str:
        """What they wrote to their standard error."""
        return self._tree.errors


def mark_warnings() -> None:
    """In a rank: have our own warnings, one line each, stand out from what else goes to the standard error."""
    handler = logging.StreamHandler()
    handler.setFormatter(_OneLine(f"{WARNING}%(message)s"))
    logging.getLogger("deitlt").addHandler(handler)


class _OneLine(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return " ".join(super().format(record).split())


def conclude(outcome: Outcome, ranks: Ranks) -> None:
    """Go on, or end as the ranks did; what they warned of is warned of here, for nobody sees their standard error.

    Raises:
        TrainingError: what they said that the user can mend.
        Preempted: they were stopped.
    """
    if outcome.said:
        raise TrainingError(outcome.said)
    if outcome.code in (0, Preempted.CODE):
        for line in dict.fromkeys(ranks.errors.splitlines()):
            if line.startswith(WARNING):
                _log.warning(line.removeprefix(WARNING))
    if outcome.code == Preempted.CODE:
        raise Preempted()
    if outcome.code:
        sys.stderr.write(ranks.errors)  # a bug, or a signal
        raise SystemExit(outcome.code)
