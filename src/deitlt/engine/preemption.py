"""A run that a signal stops: what it says, with which code it ends, and who else wanted to know of the signal.

SIGTERM and SIGUSR1 end a run with the code `Preempted.CODE`, 75, by which what started it knows to start it again: a
batch script requeues its job, torchrun restarts its processes. Nothing here calls a scheduler, so that no job is
requeued twice. A launcher that waits for a signal itself, as submitit does for SIGUSR2, gets it after the checkpoint.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from rich.console import Console

from deitlt.callbacks.preemption import taken_signals
from deitlt.engine.run_folder import RunFolder
from deitlt.errors import Preempted


@contextmanager
def preemptible(run: RunFolder | None = None, console: Console | None = None) -> Iterator[None]:
    """Let a signal end the block with `Preempted`, at once; training takes the signals over while it lasts.

    Args:
        run: of which it is said how to go on with it.
        console: where; None says nothing.

    Raises:
        Preempted: a signal came.
    """
    if threading.current_thread() is not threading.main_thread():  # only the main thread gets signals
        yield
        return
    before = {taken: signal.signal(taken, _stop) for taken in taken_signals()}
    try:
        yield
    except Preempted as stopped:
        if console is not None:
            console.print(advice(stopped, run), markup=False, soft_wrap=True, highlight=False)
        _pass_on(stopped, before)
        raise
    finally:
        for taken, handler in before.items():
            signal.signal(taken, handler)


def advice(stopped: Preempted, run: RunFolder | None) -> str:
    """What is said of a run that was stopped."""
    why = f" by {signal.Signals(stopped.signum).name}" if stopped.signum else f", for {stopped.why}"
    if run is None or not run.can_be_resumed:
        return f"stopped{why}; no epoch was finished"
    return f"stopped{why}; type deitlt train resume={run.path}"


def _stop(signum: int, frame: FrameType | None) -> None:
    for taken in taken_signals():  # once is enough: what is being ended is not to be disturbed
        signal.signal(taken, signal.SIG_IGN)
    raise Preempted(signum)


def _pass_on(stopped: Preempted, before: dict[signal.Signals, Any]) -> None:
    """Call the handler that a launcher had, which may requeue the job and end the process."""
    handler = before.get(signal.Signals(stopped.signum)) if stopped.signum else None
    if callable(handler):
        handler(stopped.signum, None)
