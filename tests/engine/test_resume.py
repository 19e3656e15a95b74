"""A run that a signal stops, or that is killed, ends, once resumed, as one that never was: bit for bit, or not at all:
where another process trains it, or its data or its teacher are others than they were.
"""

import errno
import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from same_runs import losses, same, same_end

from deitlt.checkpoints import read_checkpoint
from deitlt.cli import main
from deitlt.data import LongTailDataModule
from deitlt.engine import run as run_module
from deitlt.engine.run_folder import RunFolder, keep_hits
from deitlt.errors import Preempted
from deitlt.modules import RAW, StudentModule, TeacherModule
from deitlt.reports.comparison import Hits

# Seven updates an epoch, of two micro-batches for the student; SAM in both stages, an average, and evaluations.
WORDS = (
    *("data.max_count=40", "data.imbalance_factor=0.2", "evaluate_every=2", "watch_test=true", "report=false"),
    *("teacher.drw.start_epoch=1", "student.epochs=3", "student.drw.start_epoch=1", "student.batch_size=8"),
    *("student/sam=constant", "student.model.depth=2", "analysis.every=null"),
)
AT_ONCE = "trainer.grace=0"
TRAINED = (
    f"is being trained by process {{pid}} on {socket.gethostname()}; wait for its end, or type another "
    "paths.output_dir=FOLDER."
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
        signal_in(patch, LongTailDataModule, "look_at_files", 1, signal.SIGTERM)
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
def killed(tiny, tmp_path, environment, complain):
    """Makes a run whose process tree gets SIGKILL in the epoch after the student's first checkpoint.

    As long as it lives, no other process takes its folder.
    """

    def kill(*words):
        run = tmp_path / "run"
        command = [sys.executable, "-m", "deitlt", "train", *tiny, *WORDS, *words, f"paths.output_dir={run}"]
        quiet = subprocess.DEVNULL
        process = subprocess.Popen(command, env=environment, stdout=quiet, start_new_session=True)
        _wait_for(run / "student" / "last.ckpt", process)
        time.sleep(0.05)  # into the next epoch
        os.killpg(process.pid, signal.SIGSTOP)  # it lives, and does nothing
        refused = complain("train", f"resume={run}", output=None)
        assert refused == f"deitlt: {run} {TRAINED.format(pid=process.pid)}"
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


def test_a_resumed_run_keeps_the_hits_of_stages_that_had_finished(begun, trained):
    shutil.copy(trained / "baseline" / "result.json", begun / "baseline")
    whole = Hits.load(trained / "test_hits.npz")
    finished = replace(whole, right={s: right for s, right in whole.right.items() if not s.startswith("student")})
    with (begun / "test_hits.npz").open("wb") as file:
        finished.save(file)
    assert main(["train", f"resume={begun}"]) == 0
    found = Hits.load(begun / "test_hits.npz")
    assert found.key == whole.key
    assert {s: right.tolist() for s, right in found.right.items()} == {s: r.tolist() for s, r in whole.right.items()}


def test_hits_of_other_test_images_or_in_a_broken_file_are_replaced(tmp_path):
    run, data = RunFolder(tmp_path), LongTailDataModule()
    right = np.arange(len(data.splits.test)) % 2 == 0
    for before in (Hits("others", data.splits.test.labels, {"student/cls": right}), None):
        with (tmp_path / "test_hits.npz").open("wb") as file:
            before.save(file) if before else file.write(b"broken")
        keep_hits(run, "teacher", {RAW: {"cls": right}}, data)
        assert Hits.load(tmp_path / "test_hits.npz").right.keys() == {"teacher"}


def test_a_run_that_was_killed_while_it_was_written_is_written(tiny_vit, tmp_path):
    run = tmp_path / "run"
    assert main(["train", *tiny_vit, f"paths.output_dir={run}"]) == 0
    (run / ".lock").touch()  # its process never came to remove it
    (run / "per_class.csv").unlink()
    assert main(["train", f"resume={run}"]) == 0
    assert (run / "per_class.csv").exists()
    assert not (run / ".lock").exists()
    assert main(["train", f"resume={run}"]) == 2


# Another process takes the folder that is named, as a run that begins there does, and keeps it while its input is open.
BEGIN = """
import fcntl, os, pathlib, sys
run = pathlib.Path(sys.argv[1])
run.mkdir(exist_ok=True)
(run / "config.yaml").touch()
lock = (run / ".lock").open("a+")
fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
print("process", os.getpid(), "on", os.uname().nodename, end="", file=lock, flush=True)
print("begun", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("lives", [True, False])
def test_of_two_runs_that_begin_at_once_in_one_folder_the_second_is_refused(
    lives, tiny_vit, tmp_path, monkeypatch, capfd
):
    run, look, others = tmp_path / "run", run_module.check_whole, []

    def look_while_another_begins(*arguments):
        found = look(*arguments)
        other = subprocess.Popen([sys.executable, "-c", BEGIN, run], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        others.append(other)
        assert other.stdout.readline() == b"begun\n"
        if not lives:
            other.communicate()
        return found

    monkeypatch.setattr(run_module, "check_whole", look_while_another_begins)
    code = main(["train", *tiny_vit, f"paths.output_dir={run}"])
    (other,) = others
    other.communicate()
    said = TRAINED.format(pid=other.pid) if lives else "holds a run that was begun; delete it, or type another paths"
    assert (code, said in capfd.readouterr().err) == (2, True)
    assert not (run / "student").exists()


def test_a_lock_whose_file_went_away_while_it_was_taken_is_no_lock(tmp_path, monkeypatch):
    lock, tries = fcntl.lockf, []

    def lock_late(file, how):
        if not tries:
            (tmp_path / ".lock").unlink()  # by the process that had it, between our opening it and our locking it
        tries.append(how)
        lock(file, how)

    monkeypatch.setattr(fcntl, "lockf", lock_late)
    with RunFolder(tmp_path).held() as take:
        take()
        other = subprocess.run([sys.executable, "-c", BEGIN, tmp_path], input=b"", capture_output=True, check=False)
        assert b"BlockingIOError" in other.stderr
    assert len(tries) == 2
    assert not (tmp_path / ".lock").exists()


def test_a_file_system_without_locks_trains_and_says_so(tmp_path, monkeypatch, caplog):
    def lock(file, how):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", lock)
    with RunFolder(tmp_path).held() as take:
        take()
    assert "lies on a file system without locks (No locks available)" in caplog.text


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


def test_a_run_goes_on_with_the_data_that_it_was_begun_with_or_not_at_all(image_folder, tiny_vit, tmp_path, complain):
    run, ants = tmp_path / "run", image_folder / "train" / "ant"
    (ants / "broken.png").write_bytes(b"no image")
    words = ["data=folder", f"data.root={image_folder}", "data.imbalance_factor=null", "data.max_count=null"]
    assert main(["train", *tiny_vit, *words, "data.on_broken=skip", f"paths.output_dir={run}"]) == 0
    (run / "metrics.json").unlink()
    (run / "student" / "result.json").unlink()
    before = f"deitlt: The data are not those that {run}/student/last.ckpt was trained on: class 'ant' "
    after = "; put them back as they were, or begin anew with another paths.output_dir=FOLDER."
    (ants / "3.png").rename(ants / "13.png")
    assert complain("train", f"resume={run}", output=None) == f"{before}has other training images{after}"
    (ants / "13.png").rename(tmp_path / "3.png")
    assert complain("train", f"resume={run}", output=None) == f"{before}had 12 training images and has 11{after}"
    content = read_checkpoint(last := run / "student" / "last.ckpt")
    torch.save(content | {"deitlt": {k: v for k, v in content["deitlt"].items() if k != "images"}}, last)
    assert complain("train", f"resume={run}", output=None) == f"{before}had 12 training images and has 11{after}"
    torch.save(content, last)
    (tmp_path / "3.png").rename(ants / "3.png")
    image_folder.rename(moved := tmp_path / "moved")
    assert main(["train", f"resume={run}", f"data.root={moved}"]) == 0  # the broken one is left out as before


def test_a_student_of_a_run_begins_with_the_data_of_its_teacher_or_not_at_all(
    image_folder, tiny, tmp_path, monkeypatch, capfd
):
    run, begin = tmp_path / "run", run_module.run_stage

    def lose_an_image(stage, console):
        begin(stage, console)
        (image_folder / "test" / "bee" / "0.png").unlink()

    monkeypatch.setattr(run_module, "run_stage", lose_an_image)
    words = ["data=folder", f"data.root={image_folder}", "data.imbalance_factor=null", "data.max_count=null"]
    assert main(["train", *tiny, *words, f"paths.output_dir={run}"]) == 2
    changed = "teacher/last.ckpt was trained on: class 'bee' had 2 test images and has 1; put them back"
    assert changed in capfd.readouterr().err
    assert not (run / "student" / "last.ckpt").exists()


def test_a_student_goes_on_with_the_teacher_that_it_began_with_wherever_that_lies(
    begun, trained, tiny, teacher, tmp_path, capfd, complain
):
    run, given, other = tmp_path / "run", tmp_path / "given.ckpt", tmp_path / "other.ckpt"
    shutil.copy(trained / "teacher" / "last.ckpt", given)
    assert main(["train", *tiny, f"teacher.checkpoint={given}", f"paths.output_dir={run}"]) == 0
    for name in ("metrics.json", "student/result.json"):
        (run / name).unlink()
    content = read_checkpoint(given)
    content["state_dict"]["network.linear.weight"] *= 2
    torch.save(content, other)
    given.unlink()
    assert complain("train", f"resume={run}", output=None) == (
        f"deitlt: The teacher {given} is not there any more; type teacher.checkpoint=FILE, where it was moved, beside "
        f"resume={run}."
    )
    assert complain("train", f"resume={run}", "teacher.checkpoint=null", output=None) == (
        f"deitlt: {run} was begun with a teacher's checkpoint, so teacher.checkpoint=null has no place; type "
        f"resume={run} alone."
    )
    own = complain("train", f"resume={begun}", teacher, output=None)
    assert own == f"deitlt: {begun} trains its own teacher, so {teacher} has no place; type resume={begun} alone."
    capfd.readouterr()
    assert main(["train", f"resume={run}", f"teacher.checkpoint={other}"]) == 2
    assert f"{other} is not the teacher that {run}/student learnt from so far, its" in capfd.readouterr().err
    assert not (run / "student" / "result.json").exists()
    assert main(["train", f"resume={run}", f"teacher.checkpoint={trained}"]) == 0
    assert (run / "metrics.json").exists()
