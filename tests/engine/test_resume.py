"""A run that was killed in the middle of an epoch ends, once resumed, as one that never was: bit for bit."""

import os
import signal
import subprocess
import sys
import time

import pytest
from same_runs import same, same_end

from deitlt.checkpoints import read_checkpoint
from deitlt.cli import main

# Epochs long enough to be killed in, two micro-batches an update, re-weighting in the last epochs of each stage.
WORDS = (
    *("data.max_count=60", "data.imbalance_factor=0.1", "teacher.epochs=4", "teacher.drw.start_epoch=2"),
    *("student.epochs=5", "student.drw.start_epoch=3", "student.batch_size=8", "student.images_per_update=16"),
    "student.model.depth=2",  # the first block is never dropped
)


@pytest.fixture(scope="module")
def whole(tiny, tmp_path_factory):
    """The run that nobody killed."""
    run = tmp_path_factory.mktemp("whole") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(run.parent)
        assert main(["train", *tiny, *WORDS, f"paths.output_dir={run}"]) == 0
    return run


@pytest.fixture
def killed(tiny, tmp_path, environment):
    """Makes a run whose process tree gets SIGKILL in the epoch after the stage's first checkpoint."""

    def kill_in(stage, *words):
        run = tmp_path / "run"
        command = [sys.executable, "-m", "deitlt", "train", *tiny, *WORDS, *words, f"paths.output_dir={run}"]
        quiet = subprocess.DEVNULL
        process = subprocess.Popen(command, env=environment, stdout=quiet, start_new_session=True)
        _wait_for(run / stage / "last.ckpt", process)
        time.sleep(0.05)  # into the next epoch
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert not (run / stage / "result.json").exists()
        return run

    return kill_in


def _wait_for(file, process, seconds=90):
    end = time.monotonic() + seconds
    while not file.exists():
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < end, f"no {file.name} in {seconds} s"
        time.sleep(0.005)


@pytest.mark.parametrize("workers", [2, pytest.param(0, marks=pytest.mark.slow)])
def test_a_student_that_was_killed_ends_as_one_that_was_not(workers, killed, whole):
    run = killed("student", f"teacher.checkpoint={whole}", f"data.num_workers={workers}")
    assert read_checkpoint(run / "student" / "last.ckpt")["epoch"] < 4
    assert main(["train", f"resume={run}"]) == 0
    same_end(run, whole, "student")


@pytest.mark.slow
def test_a_teacher_that_was_killed_ends_as_one_that_was_not(killed, whole):
    run = killed("teacher")
    assert read_checkpoint(run / "teacher" / "last.ckpt")["epoch"] < 3
    assert not (run / "student").exists()
    assert main(["train", f"resume={run}"]) == 0
    same_end(run, whole, "teacher")
    same_end(run, whole, "student")


@pytest.mark.slow
@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="a CPU device is a core, and there is one")
def test_two_processes_that_were_killed_end_as_two_that_were_not(killed, whole, tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    words = [f"teacher.checkpoint={whole}", "trainer.devices=2"]
    assert main(["train", *tiny, *WORDS, *words, f"paths.output_dir={tmp_path / 'alive'}"]) == 0
    run = killed("student", *words)
    assert read_checkpoint(run / "student" / "last.ckpt")["epoch"] < 4
    assert main(["train", f"resume={run}"]) == 0
    same_end(run, tmp_path / "alive", "student")


def test_a_run_that_was_killed_before_its_test_is_tested(tiny, teacher, tmp_path, monkeypatch):
    run = tmp_path / "run"
    words = ["checkpoint_every=2", f"paths.output_dir={run}"]  # the last epoch's is written after the training loop
    assert main(["train", *tiny, teacher, *words]) == 0
    before = read_checkpoint(run / "student" / "last.ckpt")
    (run / "metrics.json").unlink()
    (run / "student" / "result.json").unlink()
    assert main(["train", f"resume={run}"]) == 0
    after = read_checkpoint(run / "student" / "last.ckpt")
    same(after["state_dict"], before["state_dict"])
    assert after["global_step"] == before["global_step"]
    assert (run / "metrics.json").exists()


def test_a_run_goes_on_where_its_data_were_moved(image_folder, tiny_vit, tmp_path):
    run, moved = tmp_path / "run", tmp_path / "moved"
    words = ["data=folder", f"data.root={image_folder}", "data.imbalance_factor=null", "data.max_count=null"]
    assert main(["train", *tiny_vit, *words, f"paths.output_dir={run}"]) == 0
    (run / "metrics.json").unlink()
    (run / "student" / "result.json").unlink()
    image_folder.rename(moved)
    assert main(["train", f"resume={run}"]) == 2
    assert main(["train", f"resume={run}", f"data.root={moved}"]) == 0
    assert (run / "metrics.json").exists()
