"""A run that a signal stops in the middle of an epoch ends, once resumed, as one that never was: bit for bit."""

import os
import re
import signal
import subprocess
import sys
import time

import pytest
import torch
from same_runs import losses, same_end

from deitlt.callbacks.preemption import Preemption
from deitlt.checkpoints import read_checkpoint
from deitlt.cli import main
from deitlt.data import LongTailDataModule
from deitlt.errors import Preempted
from deitlt.modules import StudentModule, TeacherModule

# Seven updates an epoch, of two micro-batches for the student; SAM in both stages, an average, and evaluations.
WORDS = (
    *("data.max_count=40", "data.imbalance_factor=0.2", "evaluate_every=2", "watch_test=true", "report=false"),
    *("teacher.drw.start_epoch=1", "student.epochs=2", "student.drw.start_epoch=1", "student.batch_size=8"),
    *("student/sam=constant", "student.model.depth=2", "analysis.every=null"),
)


@pytest.fixture(scope="module")
def whole(tiny, tmp_path_factory):
    """The run that nobody stopped."""
    run = tmp_path_factory.mktemp("whole") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(run.parent)
        assert main(["train", *tiny, *WORDS, f"paths.output_dir={run}"]) == 0
    return run


@pytest.fixture
def stopped(tiny, tmp_path, monkeypatch, capsys):
    """Makes a run that gets a signal in one call of a method, and checks how it ends."""

    def stop_in(owner, method, call, signum=signal.SIGTERM, words=()):
        run = tmp_path / "run"
        with monkeypatch.context() as patch:
            signal_in(patch, owner, method, call, signum)
            capsys.readouterr()
            assert main(["train", *tiny, *WORDS, *words, f"paths.output_dir={run}"]) == Preempted.CODE == 75
        assert f"stopped by {signal.Signals(signum).name}; type deitlt train resume={run}" in capsys.readouterr().out
        assert not (run / "metrics.json").exists()
        return run

    return stop_in


def signal_in(patch, owner, method, call, signum):
    """Have this process get a signal in one of the calls of a method."""
    plain, calls = getattr(owner, method), []

    def with_signal(self, *arguments, **options):
        calls.append(None)
        if len(calls) == call:
            os.kill(os.getpid(), signum)
        return plain(self, *arguments, **options)

    patch.setattr(owner, method, with_signal)


def place(run, stage):
    """Epoch, batch of the epoch and update that a run's last checkpoint was written at."""
    found = read_checkpoint(run / stage / "last.ckpt")
    batches = found["loops"]["fit_loop"]["epoch_loop.batch_progress"]["current"]
    return found["epoch"], batches["completed"], found["global_step"]


def test_a_teacher_stopped_between_two_passes_of_sam_ends_as_one_that_was_not(stopped, whole):
    run = stopped(TeacherModule, "training_step", 2 * 3 - 1)  # two passes an update: the first one of the third
    assert place(run, "teacher") == (0, 3, 3)
    assert main(["train", f"resume={run}"]) == 0
    same_end(run, whole, "teacher")
    same_end(run, whole, "student")


def test_a_student_stopped_within_an_accumulation_window_ends_as_one_that_was_not(stopped, whole):
    words = [f"teacher.checkpoint={whole}"]
    run = stopped(StudentModule, "training_step", 2 * 4 + 1, signal.SIGUSR1, words)  # of an update: 2 + 2 passes
    epoch, batches, update = place(run, "student")
    assert (epoch, batches, update) == (0, 6, 3)
    assert main(["train", f"resume={run}"]) == 0
    same_end(run, whole, "student")


@pytest.mark.slow
def test_a_run_stopped_twice_in_an_epoch_by_the_same_words_goes_on(stopped, whole, tiny, tmp_path, monkeypatch, capsys):
    words = [f"teacher.checkpoint={whole}", "data.num_workers=1", "resume=auto"]
    run = stopped(StudentModule, "training_step", 2, words=words)
    assert place(run, "student") == (0, 2, 1)
    run = stopped(StudentModule, "training_step", 3, words=words)
    assert place(run, "student") == (0, 4, 2)
    again = ["train", *tiny, *WORDS, *words, f"paths.output_dir={run}"]
    assert main([*again, "seed=3"]) == 2
    assert f"{run} was begun with seed=0, and seed=3 cannot go on with it" in capsys.readouterr().err
    assert main(again) == 0
    same_end(run, whole, "student")
    assert main(again) == 0  # a scheduler may start a finished run again
    assert f"{run} holds a finished run" in capsys.readouterr().out


@pytest.mark.slow
def test_a_run_stopped_in_an_evaluation_evaluates_anew(stopped, whole, capsys):
    words = [f"teacher.checkpoint={whole}"]
    run = stopped(StudentModule, "validation_step", 1, words=words)
    epoch, batches, _ = place(run, "student")
    assert (epoch, batches > 0) == (1, True)
    before = read_checkpoint(run / "student" / "last.ckpt")["state_dict"]
    capsys.readouterr()
    assert main(["train", f"resume={run}"]) == 0
    assert re.search(r"student: epoch 2/2, \d+ s\n", capsys.readouterr().out)  # nothing was trained any more
    after = read_checkpoint(run / "student" / "last.ckpt")["state_dict"]
    assert all(torch.equal(before[name], after[name]) for name in before)
    ours, theirs = ((path / "student" / "metrics.csv").read_text() for path in (run, whole))
    assert ours.splitlines()[0].count("test/") == theirs.splitlines()[0].count("test/") > 0
    same_end(run, whole, "student")


@pytest.mark.slow
def test_an_epoch_stopped_twice_in_its_evaluation_keeps_its_loss_and_the_next_one_has_its_own(stopped, whole):
    words = ["evaluate_every=1"]
    run = stopped(TeacherModule, "validation_step", 1, words=words)
    with pytest.MonkeyPatch.context() as patch:
        signal_in(patch, TeacherModule, "validation_step", 1, signal.SIGTERM)
        assert main(["train", f"resume={run}"]) == 75
    with pytest.MonkeyPatch.context() as patch:
        signal_in(patch, StudentModule, "training_step", 1, signal.SIGTERM)  # the teacher is what is looked at
        assert main(["train", f"resume={run}"]) == 75
    same_end(run, whole, "teacher")
    assert len(losses(run, "teacher")) == 2


@pytest.mark.slow
def test_a_run_stopped_twice_before_the_same_update_loses_no_loss(stopped, whole):
    run = stopped(TeacherModule, "training_step", 2 * 3)
    with pytest.MonkeyPatch.context() as patch:
        signal_in(patch, Preemption, "on_train_start", 1, signal.SIGTERM)
        assert main(["train", f"resume={run}"]) == 75
    assert place(run, "teacher") == (0, 3, 3)
    with pytest.MonkeyPatch.context() as patch:
        signal_in(patch, StudentModule, "training_step", 1, signal.SIGTERM)
        assert main(["train", f"resume={run}"]) == 75
    same_end(run, whole, "teacher")


@pytest.mark.slow
@pytest.mark.parametrize(("method", "call"), [("on_train_epoch_end", 2), ("teardown", 1)])
def test_a_signal_after_a_stages_last_update_stops_the_run_before_the_next_stage(method, call, stopped, whole):
    run = stopped(Preemption, method, call)  # before the look at the end, and after it
    assert read_checkpoint(run / "teacher" / "last.ckpt")["epoch"] == 1
    assert not (run / "teacher" / "result.json").exists()
    assert not (run / "student").exists()
    with pytest.MonkeyPatch.context() as patch:
        signal_in(patch, StudentModule, "training_step", 1, signal.SIGTERM)
        assert main(["train", f"resume={run}"]) == 75
    same_end(run, whole, "teacher")


def test_a_run_stopped_before_its_first_update_says_so(tiny, tmp_path, monkeypatch, capsys):
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        signal_in(patch, LongTailDataModule, "check_files", 1, signal.SIGTERM)
        assert main(["train", *tiny, f"paths.output_dir={run}"]) == 75
    assert "stopped by SIGTERM; no update was finished" in capsys.readouterr().out
    assert not run.exists()


def test_a_launchers_handler_gets_its_signal_after_the_checkpoint(tiny, teacher, tmp_path, monkeypatch):
    run, called = tmp_path / "run", []
    before = signal.signal(signal.SIGUSR2, lambda signum, _: called.append((run / "student" / "last.ckpt").exists()))
    try:
        with monkeypatch.context() as patch:
            signal_in(patch, StudentModule, "training_step", 2, signal.SIGUSR2)
            assert main(["train", *tiny, teacher, f"paths.output_dir={run}"]) == 75
        assert called == [True]
    finally:
        signal.signal(signal.SIGUSR2, before)


@pytest.mark.slow
@pytest.mark.parametrize("devices", [1, pytest.param(2, marks=pytest.mark.skipif(os.cpu_count() < 2, reason="cores"))])
def test_a_process_tree_that_gets_a_signal_writes_its_checkpoint_and_ends(devices, tiny, whole, tmp_path, environment):
    words = [f"teacher.checkpoint={whole}", f"student.devices={devices}", "student.epochs=40", "data.num_workers=1"]
    run = tmp_path / "run"
    command = [sys.executable, "-m", "deitlt", "train", *tiny, *WORDS, *words, f"paths.output_dir={run}"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    last = run / "student" / "last.ckpt"
    end = time.monotonic() + 90
    while not last.exists():
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.01)
    before, began = last.stat().st_mtime_ns, time.time()
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 75
    written = last.stat()
    assert written.st_mtime_ns > before
    seconds = written.st_mtime - began, time.time() - began
    sys.stdout.write(f"{devices} ranks: {seconds[0]:.2f} s to the checkpoint, {seconds[1]:.2f} s to the end\n")
    assert read_checkpoint(last)["epoch"] < 39
