"""Loggers and pictures watch a training and must never stop it: what fails is warned about, and training goes on."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

_log = logging.getLogger(__name__)
_warned: set[str] = set()  # so that a broken server fills no terminal


def warn_once(what: str, message: str) -> None:
    """Warn, unless there was a warning about the same thing before.

    Args:
        what: the thing, such as 'metrics'.
        message: the whole sentence.
    """
    if what not in _warned:
        _warned.add(what)
        _log.warning(message)


@contextmanager
def forgiving(what: str, program: str = "W&B") -> Iterator[None]:
    """Turn any error inside into one warning for each kind of thing: 'W&B failed to record ...'."""
    try:
        yield
    except Exception as error:  # their errors have no common base: sockets, protobuf, databases, files
        message = f"{program} failed to record {what}, and training goes on without: {first_line(error)}"
        warn_once(f"{program}: {what}", message)


@contextmanager
def drawing(what: str) -> Iterator[None]:
    """Turn any error inside into one warning that names the picture: a run is worth more than its picture."""
    try:
        yield
    except Exception as error:  # fonts, a full disk, whatever matplotlib finds
        _log.warning("The picture %s could not be drawn, and the run goes on without: %s", what, first_line(error))


def first_line(error: Exception) -> str:
    """What an error says first, without the point at its end; W&B's servers answer at length."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
