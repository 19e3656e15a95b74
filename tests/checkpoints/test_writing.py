import errno
import os
import stat

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from deitlt.checkpoints import AtomicCheckpointIO, read_checkpoint, write_atomically
from deitlt.errors import CheckpointError, TrainingError


@pytest.fixture
def target(tmp_path):
    """run/student/last.ckpt, with an older content."""
    path = tmp_path / "run" / "student" / "last.ckpt"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"older")
    return path


def only(path):
    """The file is alone in its folder: nothing temporary was left."""
    return [p.name for p in path.parent.iterdir()] == [path.name]


def test_replaces_the_older_file(target):
    write_atomically(target, lambda file: file.write(b"newer"))
    assert target.read_bytes() == b"newer"
    assert only(target)


def test_makes_the_folder(tmp_path):
    path = tmp_path / "a" / "b" / "last.ckpt"
    write_atomically(path, lambda file: file.write(b"first"))
    assert path.read_bytes() == b"first"


def test_the_older_file_is_there_until_the_newer_is_whole(target, monkeypatch):
    seen = []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda number: (seen.append(target.read_bytes()), fsync(number)))
    write_atomically(target, lambda file: (file.write(b"newer"), seen.append(target.read_bytes())))
    assert seen == [b"older", b"older"]
    assert target.read_bytes() == b"newer"


def test_everyone_may_read_it_whom_the_umask_lets(tmp_path):
    write_atomically(tmp_path / "ours.ckpt", lambda file: file.write(b"x"))
    (tmp_path / "plain").write_bytes(b"x")
    ours, plain = (stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("ours.ckpt", "plain"))
    assert ours == plain


def fails(error):
    def fail(*args, **kwargs):
        raise error

    return fail


FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("error", [FULL, OSError(errno.EDQUOT, "Disk quota exceeded")])
def test_a_full_disk_while_writing_keeps_the_older_file(target, error):
    def half(file):
        file.write(b"ne")
        raise error

    with pytest.raises(TrainingError, match="The disk is full") as raised:
        write_atomically(target, half)
    assert target.read_bytes() == b"older"
    assert only(target)
    assert "the one written before is whole" in str(raised.value)
    assert f"type deitlt train resume={target.parent.parent}" in str(raised.value)


def test_a_full_disk_at_the_end_keeps_the_older_file(target, monkeypatch):
    monkeypatch.setattr(os, "fsync", fails(FULL))
    with pytest.raises(TrainingError, match="resume="):
        write_atomically(target, lambda file: file.write(b"newer"))
    assert target.read_bytes() == b"older"
    assert only(target)


def test_a_full_disk_before_the_first_checkpoint_leaves_nothing(target, monkeypatch):
    target.unlink()
    monkeypatch.setattr(os, "fsync", fails(FULL))
    with pytest.raises(TrainingError, match="start anew"):
        write_atomically(target, lambda file: file.write(b"newer"))
    assert not list(target.parent.iterdir())


class FullDisk:
    """A file that takes some bytes and no more."""

    def __init__(self, room):
        self.room = room

    def write(self, data):
        self.room -= len(data)
        if self.room < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return len(data)

    def flush(self):
        pass


@pytest.mark.parametrize("room", [0, 500, 5000])
def test_torchs_own_error_on_a_full_disk_is_known(target, room):
    with pytest.raises(TrainingError, match="The disk is full"):
        write_atomically(target, lambda file: torch.save({"a": torch.randn(10_000)}, FullDisk(room)))
    assert target.read_bytes() == b"older"
    assert only(target)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
@pytest.mark.parametrize("numbers", [1, 10_000])  # within a file's buffer, and beyond it
def test_a_device_without_room_is_known(target, numbers):
    def save(file):
        with open("/dev/full", "wb") as full:
            torch.save({"a": torch.randn(numbers)}, full)

    with pytest.raises(TrainingError, match="The disk is full"):
        write_atomically(target, save)
    assert target.read_bytes() == b"older"
    assert only(target)


def test_torchs_message_is_known(target):
    message = "PytorchStreamWriter failed writing file data/0: file write failed"
    with pytest.raises(TrainingError, match="The disk is full"):
        write_atomically(target, fails(RuntimeError(message)))


@pytest.mark.parametrize("error", [PermissionError(13, "no"), RuntimeError("a bug"), KeyboardInterrupt()])
def test_other_errors_pass_and_leave_no_temporary_file(target, error):
    with pytest.raises(type(error)):
        write_atomically(target, fails(error))
    assert target.read_bytes() == b"older"
    assert only(target)


def saving(make_trainer, folder, **options):
    last = ModelCheckpoint(folder, "last", save_on_train_epoch_end=True, enable_version_counter=False)
    plugins = [AtomicCheckpointIO()]
    return make_trainer(callbacks=[last], plugins=plugins, enable_checkpointing=True, **options)


def test_a_trainer_writes_and_resumes_through_it(make_trainer, student_module, student_batches, tmp_path):
    module = student_module()
    saving(make_trainer, tmp_path, max_epochs=1).fit(module, student_batches())
    stored = read_checkpoint(tmp_path / "last.ckpt")
    assert stored["global_step"] == 6
    for name, value in module.state_dict().items():
        assert torch.equal(stored["state_dict"][name], value)
    trainer = saving(make_trainer, tmp_path, max_epochs=2)
    trainer.fit(student_module(), student_batches(), ckpt_path=tmp_path / "last.ckpt")
    assert trainer.global_step == 12
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["last.ckpt"]


def test_a_disk_that_fills_while_training_keeps_the_last_epochs_checkpoint(
    make_trainer, student_module, student_batches, tmp_path, monkeypatch
):
    saves, save = [], torch.save

    def fill(*args, **kwargs):
        saves.append(1)
        if len(saves) == 3:
            raise FULL
        return save(*args, **kwargs)

    monkeypatch.setattr(torch, "save", fill)
    with pytest.raises(TrainingError, match="The disk is full"):
        saving(make_trainer, tmp_path, max_epochs=5).fit(student_module(), student_batches())
    assert read_checkpoint(tmp_path / "last.ckpt")["epoch"] == 1
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_resuming_from_what_would_run_code_is_refused(make_trainer, student_module, student_batches, tmp_path):
    class RunsCode:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "proof"),)

    torch.save({"state_dict": {}, "args": RunsCode()}, tmp_path / "evil.ckpt")
    with pytest.raises(CheckpointError, match="wants to run code"):
        saving(make_trainer, tmp_path).fit(student_module(), student_batches(), ckpt_path=tmp_path / "evil.ckpt")
    assert not (tmp_path / "proof").exists()
