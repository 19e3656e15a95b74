"""Errors that a user can mend: one sentence that names the value, what is allowed, and what to type.

Everything that a user may do wrong raises a `UserError`; the command line prints its sentence and exits
with code 2. What only a bug can do is an `assert`. This file imports nothing heavy: the command line
needs it before torch is loaded.
"""

import difflib
import errno
import os
import traceback
from collections.abc import Iterable

# Of the system's refusals, those that a user can do something about.
MENDABLE = (
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST),
    *(errno.ENOSPC, errno.EDQUOT),
)
OK, FAILED, USER_ERROR, INTERRUPTED = 0, 1, 2, 130  # exit codes, beside `Preempted.CODE`


class UserError(ValueError):
    """What the user did wrong, and what to type instead."""


class ConfigError(UserError):
    """A key, a choice or a value of the configuration that is not allowed."""


class DataError(UserError):
    """Data that are missing, broken, or not what they should be."""


class CheckpointError(UserError):
    """A checkpoint that is missing, unsafe, broken, or made for something else."""


class TrainingError(UserError):
    """Training that cannot go on: a loss that is not finite, a disk that is full."""


class Preempted(SystemExit):
    """The run was stopped and can go on from its last checkpoint: no error of anybody's, but the end of this process.

    Its exit code is `CODE`, sysexits.h's EX_TEMPFAIL ("try again later"): what started the run requeues it.

    Args:
        signum: the signal; 0 where none came to this process.
        why: what came instead, as a clause.
    """

    CODE = 75

    def __init__(self, signum: int = 0, why: str = "another process was stopped") -> None:
        super().__init__(self.CODE)
        self.signum = signum
        self.why = why


def nearest(name: str, allowed: Iterable[str], otherwise: str = "") -> str:
    """The advice that ends an error about an unknown name: the nearest known one, or all of them.

    Args:
        name: what the user typed.
        allowed: every name that would have been right.
        otherwise: what to advise where none is near, in place of all names, if they are too many to read.

    Returns:
        A clause such as ``did you mean 'cifar10'?`` or, if none is near, ``type one of a, b, c.``
    """
    known = sorted(allowed)
    if close := difflib.get_close_matches(name, known, n=1, cutoff=0.6):
        return f"did you mean {close[0]!r}?"
    return otherwise or f"type {'one of ' * (len(known) > 1)}{', '.join(known)}."


def sentence(error: BaseException) -> str:
    """The sentence of an error, without the traceback that a data loader's worker puts around it."""
    text = str(error)
    if text.startswith("Caught ") and "Original Traceback" in text:
        text = text.rstrip().splitlines()[-1].split(": ", 1)[-1]
    return text


def refused(error: OSError, example: str | None) -> str | None:
    """The sentence of what the system refused; None where a user can do nothing about it, for then it is a bug.

    Args:
        error: the refusal.
        example: what names another path, such as ``output=FOLDER``; None where nothing does.
    """
    if error.errno not in MENDABLE and not _takes_no_folders(error):
        return None
    place = f"{error.filename}: " if error.filename else ""
    advice = f", as {example}" if example else ""
    return f"{place}{error.strerror}; make room or give way there, or type another path{advice}."


def _takes_no_folders(error: OSError) -> bool:
    """Whether a folder could not be made in a folder that is there, as in /proc; any other missing file is a bug's."""
    frames = list(traceback.walk_tb(error.__traceback__))
    if error.errno != errno.ENOENT or not frames or not isinstance(error.filename, str | os.PathLike):
        return False
    last = frames[-1][0]
    is_made = last.f_code.co_name in ("mkdir", "makedirs") and not last.f_globals["__name__"].startswith("deitlt")
    return is_made and os.path.isdir(os.path.dirname(os.path.abspath(error.filename)))
