"""A command with all the processes that it starts: signals go in, an exit code comes out, and nothing stays behind."""

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from deitlt.errors import Preempted

LOOK_EVERY = 0.2  # seconds between two looks at whether it runs
GRACE = 10.0  # seconds that processes get to end by themselves


class ProcessTree:
    """Processes in a group of their own, so that all of them can be ended, and none is signalled twice.

    Args:
        command: of the first process, which starts the others.
        environment: of all of them.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        # When one rank stops for an error of the user's, the others fail with tracebacks that say nothing more.
        self._errors = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115  # as long as the tree
        self._first = subprocess.Popen(command, env=dict(environment), stderr=self._errors, process_group=0)

    def wait(self, look: Callable[[], None] | None = None) -> int:
        """Wait until the first process has ended, then end what is left of the others.

        A signal that stops this process is passed on to the first one, which agrees with the other ranks on where to
        stop; so is Ctrl-C.

        Args:
            look: called now and then; what it raises ends the tree.

        Returns:
            The exit code.

        Raises:
            Preempted, KeyboardInterrupt: as they came, once the tree has ended.
        """
        try:
            return self._wait(look)
        except Preempted as stopped:
            if stopped.signum:
                self._first.send_signal(signal.SIGTERM)
                self._wait(look)  # for its checkpoint, however long that takes
            raise
        except KeyboardInterrupt:
            self._first.send_signal(signal.SIGINT)
            raise
        finally:
            self._end()

    @property
    def errors(self) -> str:
        """What the processes wrote to their standard error."""
        self._errors.seek(0)
        return self._errors.read()

    def _wait(self, look: Callable[[], None] | None) -> int:
        while (code := self._poll()) is None:
            if look is not None:
                look()
        return code

    def _poll(self) -> int | None:
        with suppress(subprocess.TimeoutExpired):
            return self._first.wait(LOOK_EVERY)
        return None

    def _end(self) -> None:
        """Let the group end by itself for a while, then end it."""
        end = time.monotonic() + GRACE
        while time.monotonic() < end and self._is_alive():
            time.sleep(0.05)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._first.pid, signal.SIGKILL)

    def _is_alive(self) -> bool:
        self._first.poll()
        try:
            os.killpg(self._first.pid, 0)
        except (ProcessLookupError, PermissionError):
            return False
        return True


def end_with(parent: int) -> None:
    """Have this process's group end when the process that started it was killed: nobody else would end it.

    Args:
        parent: its id.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(LOOK_EVERY)
        sys.stderr.flush()
        os.killpg(os.getpgrp(), signal.SIGKILL)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()
