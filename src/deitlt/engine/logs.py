"""What is said while a run trains: run.log holds what every rank and library says, the terminal what a user needs."""

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

LIBRARIES = ("lightning", "lightning.pytorch", "lightning.fabric", "py.warnings", "torch", "timm")
_log = logging.getLogger("deitlt.run")


class RunConsole(Console):
    """A console whose lines go into the run's log, too."""

    def print(self, *objects: Any, **options: Any) -> None:
        """Print, and log what is text."""
        super().print(*objects, **options)
        if objects and all(isinstance(part, str) for part in objects):
            _log.info(" ".join(objects))


class _OneLine(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        return text if record.exc_info else " ".join(text.split())


@contextmanager
def run_log(path: Path, rank: int) -> Iterator[None]:
    """Append to a run's log what is said inside, a rank's number before it; Python's warnings, too.

    On the terminal the first rank shows its own warnings; libraries are silent there.

    Args:
        path: of the file; its folder exists.
        rank: this process's.
    """
    file = logging.FileHandler(path)
    file.setFormatter(_OneLine(f"%(asctime)s rank {rank} %(levelname)s %(name)s: %(message)s"))
    terminal = logging.StreamHandler(sys.stderr)
    terminal.setLevel(logging.WARNING if rank == 0 else logging.CRITICAL + 1)
    logging.captureWarnings(True)
    ours = logging.getLogger("deitlt")
    libraries = [logging.getLogger(name) for name in LIBRARIES]
    before = [(logger, logger.handlers[:], logger.propagate, logger.level) for logger in [ours, *libraries]]
    for logger in libraries:
        logger.handlers, logger.propagate = [file], False
        logger.setLevel(logging.WARNING if logger.name in ("torch", "timm") else logging.INFO)
    for name in ("lightning.pytorch", "lightning.fabric"):  # whose parent writes
        logging.getLogger(name).handlers = []
        logging.getLogger(name).propagate = True
    ours.handlers = [*ours.handlers, file, terminal]
    ours.setLevel(logging.INFO)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        for logger, handlers, propagates, level in before:
            logger.handlers, logger.propagate = handlers, propagates
            logger.setLevel(level)
        file.close()


@contextmanager
def without_chatter() -> Iterator[None]:
    """Nothing below a warning is logged inside, and no warning of Python's is shown: what is made is thrown away."""
    before = logging.root.manager.disable
    logging.disable(logging.INFO)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def silence() -> None:
    """Keep libraries' chatter off the terminal where there is no run's log."""
    for name in ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"lightning\..*")
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
