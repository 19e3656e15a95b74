"""How a command ends: its exit code, and the one sentence for what a user can mend. No torch here."""

import errno
import os
import sys
import traceback
from collections.abc import Callable

from deitlt.errors import Preempted, UserError, sentence

OK, FAILED, USER_ERROR, INTERRUPTED = 0, 1, 2, 130

# Of the system's refusals, those that a user can do something about.
MENDABLE = (
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST),
    *(errno.ENOSPC, errno.EDQUOT),
)
# Verb -> what names the place of what it writes.
PLACES = {
    **dict.fromkeys(("train", "evaluate", "inspect"), "paths.output_dir=FOLDER"),
    **{"export": "output=FOLDER", "predict": "output=FILE", "analyze": "folder=FOLDER", "benchmark": "output=FILE"},
}


def run_to_its_end(command: Callable[[], int], verb: str) -> int:
    """Run a command.

    Args:
        command: answers with its exit code.
        verb: the one that was typed; empty where none was.

    Returns:
        The exit code: the command's, 2 for what the user can mend, 130 if it was interrupted, 75 if preempted.
    """
    try:
        return command()
    except BrokenPipeError:  # `deitlt ... | head` has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except (UserError, OSError) as error:
        return complain(error, in_words(error, verb))
    except KeyboardInterrupt:
        return INTERRUPTED
    except Preempted as stopped:
        return stopped.CODE


def complain(error: Exception, words: str) -> int:
    """Print the sentence that stands for an error; while debugging, the error goes on."""
    if debugging():
        raise error
    sys.stderr.write(f"deitlt: {words}\n")
    return USER_ERROR


def debugging() -> bool:
    """Whether tracebacks are wanted."""
    return os.environ.get("DEITLT_DEBUG") == "1"


def in_words(error: UserError | OSError, verb: str) -> str:
    """What the user did wrong, or what the system refused if a user can mend that; else the error goes on."""
    if isinstance(error, UserError):
        return sentence(error)
    if error.errno not in MENDABLE and not _takes_no_folders(error):
        raise error
    place = f"{error.filename}: " if error.filename else ""
    example = f", as {PLACES[verb]}" if verb in PLACES else ""
    return f"{place}{error.strerror}; make room or give way there, or type another path{example}."


def _takes_no_folders(error: OSError) -> bool:
    """Whether a folder could not be made in a folder that is there, as in /proc; any other missing file is a bug's."""
    frames = list(traceback.walk_tb(error.__traceback__))
    if error.errno != errno.ENOENT or not frames or not isinstance(error.filename, str | os.PathLike):
        return False
    last = frames[-1][0]
    is_made = last.f_code.co_name in ("mkdir", "makedirs") and not last.f_globals["__name__"].startswith("deitlt")
    return is_made and os.path.isdir(os.path.dirname(os.path.abspath(error.filename)))
