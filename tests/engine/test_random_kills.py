"""SIGKILL at random moments of a run, again and again: typed again, it ends as one that nobody disturbed."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest
from same_runs import same_end
from test_resume import WORDS

from deitlt.cli import main

KILLS = int(os.environ.get("DEITLT_KILLS", "20"))
STAGES = ("teacher", "student", "baseline")


def _kill_at(words, moment, watched, environment):
    """Run until the moment comes, in seconds, or one of the files is written anew; whether it was still running."""
    before = {file: _written(file) for file in watched}
    process = subprocess.Popen(
        [sys.executable, "-m", "deitlt", *words], env=environment, stdout=subprocess.DEVNULL, start_new_session=True
    )
    end = time.monotonic() + moment
    while process.poll() is None and time.monotonic() < end:
        if watched and any(_written(file) != before[file] for file in watched):
            time.sleep(random.uniform(0, 0.02))  # the few milliseconds around a checkpoint
            break
        time.sleep(0.0005)
    if process.poll() is not None:
        assert process.returncode == 0
        return False
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return True


def _written(file):
    return file.stat().st_mtime_ns if file.exists() else 0


@pytest.mark.slow
def test_a_run_that_is_killed_again_and_again_ends_as_one_that_was_not(tiny, tmp_path, environment):
    words = ["train", *tiny, *WORDS, "stages=[teacher,student,baseline]"]
    began = time.monotonic()
    assert main([*words, f"paths.output_dir={tmp_path / 'whole'}"]) == 0
    seconds = time.monotonic() - began
    random.seed(0)
    kills, runs = 0, 0
    while kills < KILLS:
        run = tmp_path / f"run{runs}"
        typed = [*words, f"paths.output_dir={run}", "resume=auto"]
        files = [run / stage / name for stage in STAGES for name in ("last.ckpt", "metrics.csv", "result.json")]
        while kills < KILLS and _kill_at(
            typed, random.uniform(5, 10 + seconds), files if kills % 2 else [], environment
        ):
            kills += 1
        if kills == KILLS:
            subprocess.run([sys.executable, "-m", "deitlt", *typed], env=environment, check=True)
        for stage in STAGES:
            same_end(run, tmp_path / "whole", stage)
        mine, other = (_metrics(folder) for folder in (run, tmp_path / "whole"))
        assert mine == other
        assert (run / "report.html").exists() == (tmp_path / "whole" / "report.html").exists()
        left = [str(file) for file in run.rglob(".*") if file.is_file()]
        assert left == []
        runs += 1


def _metrics(run):
    content = json.loads((run / "metrics.json").read_text())
    return {key: value for key, value in content.items() if key not in ("seconds", "checkpoints")}
