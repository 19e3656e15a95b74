"""A run that a signal stops, or that is killed, ends, once resumed, as one that never was: bit for bit."""

import os
import signal
import subprocess
import sys
import time

import pytest
from same_runs import losses, same, same_end

from deitlt.checkpoints import read_checkpoint
from deitlt.cli import main
from deitlt.data import LongTailDataModule
from deitlt.errors import Preempted
from deitlt.modules import StudentModule, TeacherModule

# Seven updates an epoch, of two micro-batches for the student; SAM in both stages, an average, and evaluations.
WORDS = (
    *("data.max_count=40", "data.imbalance_factor=0.2", "evaluate_every=2", "watch_test=true", "report=false"),
    *("teacher.drw.start_epoch=1", "student.epochs=3", "student.drw.start_epoch=1", "student.batch_size=8"),
    *("student/sam=constant", "student.model.depth=2", "analysis.every=null"),
)
AT_ONCE = "trainer.grace=0"


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

    def stop_in(owner, method, call, *words, signum=signal.SIGTERM):
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


def epochs_done(run, stage):
    found = read_checkpoint(run / stage / "last.ckpt")
    return found["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"]


def test_a_teacher_finishes_its_epoch_and_goes_on_as_one_that_was_not_stopped(stopped, whole):
    run = stopped(TeacherModule, "training_step", 2 * 3 - 1)  # two passes an update: the first one of the third
    assert epochs_done(run, "teacher") == 1
    assert main(["train", f"resume={run}"]) == 0
    same_end(run, whole, "teacher")
    same_end(run, whole, "student")


def test_a_student_without_time_repeats_its_epoch_by_the_same_words(stopped, whole, tiny):
    words = [f"teacher.checkpoint={whole}", AT_ONCE, "resume=auto"]
    run = stopped(StudentModule, "training_step", 60, *words, signum=signal.SIGUSR1)
    assert epochs_done(run, "student") == 1
    again = ["train", *tiny, *WORDS, *words, f"paths.output_dir={run}"]
    assert main([*again, "seed=3"]) == 2
    assert main(again) == 0
    same_end(run, whole, "student")
    assert main(again) == 0  # a scheduler may start a finished run again


@pytest.mark.slow
@pytest.mark.parametrize(
    "words", [["checkpoint_every=3"], ["evaluate_every=2", "protocol=val", "data.val_fraction=0.2"]]
)
def test_a_checkpoint_between_two_others_is_as_good(stopped, tiny, tmp_path, words):
    alive = tmp_path / "alive"
    assert main(["train", *tiny, *WORDS, *words, f"paths.output_dir={alive}"]) == 0
    run = stopped(StudentModule, "training_step", 110, *words)
    assert epochs_done(run, "student") in (2, 3)
    assert main(["train", f"resume={run}"]) == 0
    same_end(run, alive, "student")


def test_an_evaluation_that_was_given_up_is_run_again(stopped, whole):
    run = stopped(TeacherModule, "validation_step", 1, AT_ONCE)
    assert epochs_done(run, "teacher") == 1
    with pytest.MonkeyPatch.context() as patch:
        signal_in(patch, StudentModule, "training_step", 1, signal.SIGTERM)  # the teacher is what is looked at
        assert main(["train", f"resume={run}"]) == 75
    same_end(run, whole, "teacher")
    assert len(losses(run, "teacher")) == 2


def test_a_run_stopped_before_its_first_update_says_so(tiny, tmp_path, monkeypatch, capsys):
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        signal_in(patch, LongTailDataModule, "check_files", 1, signal.SIGTERM)
        assert main(["train", *tiny, f"paths.output_dir={run}"]) == 75
    assert "stopped by SIGTERM; no epoch was finished" in capsys.readouterr().out
    assert not (run / "config.yaml").exists()


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


@pytest.fixture
def killed(tiny, tmp_path, environment):
    """Makes a run whose process tree gets SIGKILL in the epoch after the student's first checkpoint."""

    def kill(*words):
        run = tmp_path / "run"
        command = [sys.executable, "-m", "deitlt", "train", *tiny, *WORDS, *words, f"paths.output_dir={run}"]
        quiet = subprocess.DEVNULL
        process = subprocess.Popen(command, env=environment, stdout=quiet, start_new_session=True)
        _wait_for(run / "student" / "last.ckpt", process)
        time.sleep(0.05)  # into the next epoch
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert not (run / "student" / "result.json").exists()
        return run

    return kill


def _wait_for(file, process, seconds=90):
    end = time.monotonic() + seconds
    while not file.exists():
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < end, f"no {file.name} in {seconds} s"
        time.sleep(0.005)


def test_a_student_that_was_killed_ends_as_one_that_was_not(killed, whole):
    run = killed(f"teacher.checkpoint={whole}", "data.num_workers=2")
    assert read_checkpoint(run / "student" / "last.ckpt")["epoch"] < 2
    assert main(["train", f"resume={run}"]) == 0
    same_end(run, whole, "student")


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


def test_a_run_that_was_killed_while_it_was_written_is_written(tiny_vit, tmp_path):
    run = tmp_path / "run"
    assert main(["train", *tiny_vit, f"paths.output_dir={run}"]) == 0
    (run / ".lock").touch()  # its process never came to remove it
    (run / "per_class.csv").unlink()
    assert main(["train", f"resume={run}"]) == 0
    assert (run / "per_class.csv").exists()
    assert not (run / ".lock").exists()
    assert main(["train", f"resume={run}"]) == 2


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
