import os
import signal
import subprocess
import sys
import time

import pytest

from deitlt.engine.process_tree import ProcessTree
from deitlt.errors import Preempted

# A process that starts another and waits; the other says that it is there by a file.
CHILD = "import pathlib, sys, time; pathlib.Path(sys.argv[1]).touch(); time.sleep(60)"
PARENT = """
import pathlib, signal, subprocess, sys, time
{before}
subprocess.Popen([sys.executable, "-c", {child!r}, sys.argv[1]])
{then}
"""


@pytest.fixture
def tree(tmp_path):
    """Makes a tree of two processes, both of which run; `before` and `then` are what the first does."""

    def make(then, before=""):
        file = tmp_path / "child"
        made = ProcessTree(
            [sys.executable, "-c", PARENT.format(child=CHILD, before=before, then=then), str(file)], os.environ
        )
        end = time.monotonic() + 30
        while not file.exists():
            assert time.monotonic() < end
            time.sleep(0.01)
        return made

    return make


def group_is_gone(tree):
    """Whether no process of the tree runs; what nobody has waited for yet counts as gone."""
    listed = subprocess.run(["ps", "-eo", "pgid,stat"], capture_output=True, text=True, check=True).stdout
    return not [line for line in listed.splitlines() if line.split()[0] == str(tree._first.pid) and "Z" not in line]


def test_the_exit_code_and_the_errors_come_back():
    made = ProcessTree([sys.executable, "-c", "import sys; sys.stderr.write('oh'); sys.exit(7)"], os.environ)
    assert made.wait() == 7
    assert made.errors == "oh"


def test_what_the_first_process_leaves_behind_is_ended(tree, monkeypatch):
    monkeypatch.setattr("deitlt.engine.process_tree.GRACE", 0.2)
    made = tree("sys.exit(3)")
    assert made.wait() == 3
    assert group_is_gone(made)


def test_a_signal_is_passed_on_and_its_answer_waited_for(tree, tmp_path, monkeypatch):
    monkeypatch.setattr("deitlt.engine.process_tree.GRACE", 0.2)
    answer = tmp_path / "answer"
    answers = f"lambda *_: (time.sleep(0.5), pathlib.Path({str(answer)!r}).touch(), sys.exit(0))"
    made = tree("time.sleep(60)", before=f"signal.signal(signal.SIGTERM, {answers})")

    looks = []

    def look():
        looks.append(None)
        if len(looks) == 1:
            raise Preempted(signal.SIGUSR1)

    with pytest.raises(Preempted):
        made.wait(look)
    assert len(looks) > 1  # other hosts are to see that this one lives
    assert answer.exists()
    assert group_is_gone(made)


def test_what_a_look_raises_ends_the_tree(tree, monkeypatch):
    monkeypatch.setattr("deitlt.engine.process_tree.GRACE", 0.2)
    made = tree("time.sleep(60)")

    def look():
        raise Preempted(why="host 0 is gone")

    with pytest.raises(Preempted):
        made.wait(look)
    assert group_is_gone(made)
