"""Checkpoints that cannot be used, and disks that cannot take one."""

import errno
import os
import pickle

import pytest
import torch

from deitlt.checkpoints import read_checkpoint
from deitlt.cli import main


class Code:
    """What an attacker would put into a file: unpickling it runs a command."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.fixture
def other_teacher(trained, tmp_path):
    """Makes a copy of the trained teacher whose card is changed."""

    def make(**changes):
        content = read_checkpoint(trained / "teacher" / "last.ckpt")
        content["deitlt"] |= changes
        torch.save(content, tmp_path / "other.ckpt")
        return "teacher.checkpoint=other.ckpt"

    return make


def test_a_teacher_with_another_number_of_classes(complain, tiny, other_teacher):
    sentence = complain("train", *tiny, other_teacher(class_names=["a", "b", "c"]))
    assert "other.ckpt knows 3 classes, but the data have 10" in sentence
    assert "teacher.checkpoint=null" in sentence


def test_a_teacher_of_other_classes(complain, tiny, other_teacher):
    sentence = complain("train", *tiny, other_teacher(class_names=list("abcdefghij")))
    assert "knows other classes (a, b, c, ...) than the data (0, 1, 2, ...)" in sentence


def test_a_student_is_no_teacher(complain, tiny, trained):
    checkpoint = trained / "student" / "last.ckpt"
    sentence = complain("train", *tiny, f"teacher.checkpoint={checkpoint}")
    assert f"{checkpoint} holds a student, no teacher" in sentence


def test_a_missing_checkpoint(complain, tiny):
    assert "gone.ckpt; type the path of a .ckpt file" in complain("train", *tiny, "teacher.checkpoint=gone.ckpt")


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04 not really", b"\x80\x02}q\x00."])
def test_a_file_that_is_no_checkpoint(content, complain, tiny, tmp_path):
    (tmp_path / "file.ckpt").write_bytes(content)
    sentence = complain("train", *tiny, "teacher.checkpoint=file.ckpt")
    assert "file.ckpt" in sentence
    assert "type the path" in sentence


def test_half_a_checkpoint(complain, tiny, trained, tmp_path):
    whole = (trained / "teacher" / "last.ckpt").read_bytes()
    (tmp_path / "half.ckpt").write_bytes(whole[: len(whole) // 2])
    assert "half.ckpt is no checkpoint" in complain("train", *tiny, "teacher.checkpoint=half.ckpt")


def test_weights_without_a_card(complain, tiny, tmp_path):
    torch.save({"state_dict": {}}, tmp_path / "foreign.ckpt")
    assert "foreign.ckpt was not written by deitlt" in complain("train", *tiny, "teacher.checkpoint=foreign.ckpt")


def test_a_file_that_would_run_code_is_refused_and_runs_none(complain, tiny, tmp_path):
    torch.save({"state_dict": Code(f"touch {tmp_path}/ran")}, tmp_path / "evil.ckpt")
    sentence = complain("train", *tiny, "teacher.checkpoint=evil.ckpt")
    assert "evil.ckpt wants to run code while it is read, and was refused" in sentence
    assert not (tmp_path / "ran").exists()
    torch.load(tmp_path / "evil.ckpt", weights_only=False)  # the proof that it would have
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize("protocol", [2, 4])
def test_a_bare_pickle_that_would_run_code_runs_none(protocol, tiny, tmp_path, capfd):
    (tmp_path / "evil.pkl").write_bytes(pickle.dumps(Code(f"touch {tmp_path}/ran"), protocol))
    assert main(["train", *tiny, "teacher.checkpoint=evil.pkl", "paths.output_dir=run"]) == 2
    assert "evil.pkl" in capfd.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["evil.pkl"]


@pytest.mark.parametrize("verb", ["evaluate", "predict"])
def test_no_verb_runs_what_a_file_holds(verb, tmp_path, complain):
    torch.save(Code(f"touch {tmp_path}/ran"), tmp_path / "evil.ckpt")
    output = "run" if verb == "evaluate" else None
    words = [] if verb == "evaluate" else ["images=."]
    assert "was refused" in complain(verb, "checkpoint=evil.ckpt", *words, output=output)


def test_a_checkpoint_with_other_weights_than_it_says(complain, trained, tmp_path):
    content = read_checkpoint(trained / "student" / "last.ckpt")
    content["deitlt"]["model"]["depth"] = 2
    torch.save(content, tmp_path / "changed.ckpt")
    assert "changed.ckpt does not hold the weights" in complain("evaluate", "checkpoint=changed.ckpt")


def test_a_checkpoint_whose_data_would_call_the_system_calls_nothing(trained, tmp_path):
    content = read_checkpoint(trained / "student" / "last.ckpt")
    content["deitlt"]["data"] |= {"_target_": "os.system", "command": f"touch {tmp_path}/ran"}
    torch.save(content, tmp_path / "evil.ckpt")
    assert main(["evaluate", "checkpoint=evil.ckpt", "paths.output_dir=found"]) == 0
    assert (tmp_path / "found" / "metrics.json").exists()
    assert not (tmp_path / "ran").exists()


class FullDisk:
    """torch.save on a disk that is full after so many checkpoints."""

    def __init__(self, room):
        self.room = room
        self.save = torch.save

    def __call__(self, content, file, *args, **options):
        self.room -= 1
        if self.room < 0:
            file.write(b"half of a checkpoint")
            raise OSError(errno.ENOSPC, "No space left on device")
        self.save(content, file, *args, **options)


def test_a_full_disk_leaves_the_older_checkpoint_whole(tiny, teacher, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(torch, "save", FullDisk(room=2))
    assert main(["train", *tiny, teacher, "paths.output_dir=run"]) == 2
    (line,) = capfd.readouterr().err.splitlines()
    run = tmp_path / "run"
    assert "The disk is full" in line
    assert f"type deitlt train resume={run}" in line
    assert read_checkpoint(run / "student" / "last.ckpt")["epoch"] == 1
    assert not [path.name for path in run.rglob(".*")]  # no draft is left behind
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert main(["train", f"resume={run}"]) == 0
    assert (run / "metrics.json").exists()


def test_a_full_disk_at_the_first_checkpoint_leaves_none(tiny, teacher, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(torch, "save", FullDisk(room=0))
    assert main(["train", *tiny, teacher, "paths.output_dir=run"]) == 2
    assert "free some space and start anew" in capfd.readouterr().err
    assert not list((tmp_path / "run").rglob("*.ckpt"))
