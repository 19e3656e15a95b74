"""Files from outside run nothing, files of our own are whole or not there, and a run's name finds its checkpoint."""

import errno
import io as memory
import os
import pickle
import stat
import zipfile

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from deitlt.checkpoints import AtomicCheckpointIO, find_checkpoint, read_checkpoint, write_atomically
from deitlt.errors import CheckpointError, TrainingError

pytestmark = pytest.mark.filterwarnings("ignore:Detected pickle protocol")
CONTENT = {"state_dict": {"network.weight": torch.arange(3.0)}, "epoch": 4, "deitlt": {"counts": [3, 1]}}
FULL = OSError(errno.ENOSPC, "No space left on device")


class RunsCode:
    """Its unpickling makes a folder, which proves that code ran."""

    def __init__(self, proof):
        self.proof = str(proof)

    def __reduce__(self):
        return os.mkdir, (self.proof,)


def test_plain_containers_and_tensors_come_back_onto_the_cpu(tmp_path, monkeypatch):
    torch.save(CONTENT, tmp_path / "a.ckpt")
    asked, load = {}, torch.load
    monkeypatch.setattr(torch, "load", lambda path, **options: asked.update(options) or load(path, **options))
    found = read_checkpoint(str(tmp_path / "a.ckpt"))
    assert torch.equal(found["state_dict"]["network.weight"], torch.arange(3.0))
    assert (found["deitlt"], found["epoch"]) == ({"counts": [3, 1]}, 4)
    assert asked == {"map_location": "cpu", "weights_only": True}


@pytest.mark.parametrize("external", [False, True])
@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_that_would_run_code_does_not(tmp_path, protocol, external):
    path, proof = tmp_path / "evil.ckpt", tmp_path / "proof"
    path.write_bytes(pickle.dumps({"state_dict": RunsCode(proof)}, protocol=protocol))
    with pytest.raises(CheckpointError, match=r"evil\.ckpt.*type the path of a"):
        read_checkpoint(path, external)
    assert not proof.exists()
    pickle.loads(path.read_bytes())  # the file would have worked on an open unpickler
    assert proof.exists()


@pytest.mark.parametrize("external", [False, True])
@pytest.mark.parametrize("zipped", [True, False])
def test_a_checkpoint_of_torch_that_would_run_code_is_told_so(tmp_path, zipped, external):
    path, proof = tmp_path / "evil.ckpt", tmp_path / "proof"
    torch.save({**CONTENT, "args": RunsCode(proof)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match=r"evil\.ckpt wants to run code while it is read, and was refused"):
        read_checkpoint(path, external)
    assert not proof.exists()
    torch.load(path, weights_only=False)
    assert proof.exists()


def another_zip():
    with zipfile.ZipFile(content := memory.BytesIO(), "w") as archive:
        archive.writestr("a.txt", "hello")
    return content.getvalue()


@pytest.mark.parametrize("content", [b"", b"\x00", b"hello\n" * 50, b"\x80\x02}", another_zip()])
def test_what_is_no_checkpoint_is_told_so(tmp_path, content):
    (tmp_path / "notes.ckpt").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"notes\.ckpt is no checkpoint; type the path"):
        read_checkpoint(tmp_path / "notes.ckpt")


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("share", [0.01, 0.3, 0.7, 0.99])
def test_a_truncated_checkpoint_is_refused(tmp_path, share, zipped):
    path = tmp_path / "cut.ckpt"
    torch.save({**CONTENT, "weights": torch.randn(1000)}, path, _use_new_zipfile_serialization=zipped)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(CheckpointError, match=r"cut\.ckpt is damaged" if zipped else r"cut\.ckpt is no checkpoint"):
        read_checkpoint(path)


def test_damaged_bytes_never_raise_anything_else(tmp_path):
    path = tmp_path / "damaged.ckpt"
    torch.save(CONTENT, path, _use_new_zipfile_serialization=False)
    whole, generator, refused = bytearray(path.read_bytes()), torch.Generator().manual_seed(0), 0
    for _ in range(200):
        damaged = whole.copy()
        for place in torch.randint(len(whole), (4,), generator=generator).tolist():
            damaged[place] = int(torch.randint(256, (1,), generator=generator))
        path.write_bytes(damaged)
        try:
            read_checkpoint(path)
        except CheckpointError as error:
            refused += "damaged.ckpt" in str(error)
    assert refused > 50


def test_one_turned_bit_is_found_wherever_it_changes_something(tmp_path):
    path = tmp_path / "turned.ckpt"
    torch.save(CONTENT, path)
    whole, told = path.read_bytes(), []
    folder = 38  # of an entry of the list of parts: bit 4 says that it is a folder
    turned = {whole.rindex(b"PK\x01\x02", 0, whole.rindex(b"turned/data/0")) + folder: 16}
    for place, byte in enumerate(whole):
        bit = turned.get(place, 1 << place % 8)
        path.write_bytes(whole[:place] + bytes([byte ^ bit]) + whole[place + 1 :])
        try:
            found = read_checkpoint(path)
        except CheckpointError as error:
            told.append(str(error))
        else:  # between the archive's parts there is room that nobody reads
            assert torch.equal(found["state_dict"].pop("network.weight"), torch.arange(3.0))
            assert found == {"state_dict": {}, "epoch": 4, "deitlt": {"counts": [3, 1]}}
    weights = "turned.ckpt is damaged: turned/data/0 is not as it was written; put a copy of the file in its place"
    assert sum(weights in line for line in told) >= 3 * 4
    assert all("turned.ckpt is damaged: " in line or "turned.ckpt is no checkpoint" in line for line in told)


def test_a_file_that_was_written_without_checksums_is_read(tmp_path):
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(CONTENT, tmp_path / "a.ckpt")
    finally:
        torch.serialization.set_crc32_options(True)
    assert read_checkpoint(tmp_path / "a.ckpt")["epoch"] == 4


@pytest.mark.parametrize("content", [torch.ones(3), [1, 2], 7])
def test_what_holds_something_else_is_told_so(tmp_path, content):
    torch.save(content, tmp_path / "tensor.pt")
    with pytest.raises(CheckpointError, match=rf"tensor\.pt holds a {type(content).__name__}, no checkpoint"):
        read_checkpoint(tmp_path / "tensor.pt")


def test_a_file_that_is_missing_or_may_not_be_read_is_named(tmp_path, monkeypatch):
    for name in ("missing.ckpt", "."):
        with pytest.raises(CheckpointError, match=r"There is no checkpoint .*; type the path of a \.ckpt file"):
            read_checkpoint(tmp_path / name)
    torch.save(CONTENT, tmp_path / "a.ckpt")
    monkeypatch.setattr(torch, "load", fails(PermissionError(13, "Permission denied")))
    with pytest.raises(CheckpointError, match=r"a\.ckpt may not be read"):
        read_checkpoint(tmp_path / "a.ckpt")


@pytest.fixture
def target(tmp_path):
    """run/student/last.ckpt, with an older content."""
    path = tmp_path / "run" / "student" / "last.ckpt"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"older")
    return path


def untouched(path):
    """The older file is whole, and alone in its folder: nothing temporary was left."""
    return path.read_bytes() == b"older" and [p.name for p in path.parent.iterdir()] == [path.name]


def fails(error):
    def fail(*args, **kwargs):
        raise error

    return fail


def test_the_older_file_is_there_until_the_newer_is_whole(target, monkeypatch, tmp_path):
    seen, fsync = [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda number: (seen.append(target.read_bytes()), fsync(number)))
    write_atomically(target, lambda file: (file.write(b"newer"), seen.append(target.read_bytes())))
    assert seen == [b"older", b"older"]
    assert target.read_bytes() == b"newer"
    assert [p.name for p in target.parent.iterdir()] == [target.name]
    monkeypatch.undo()
    write_atomically(tmp_path / "a" / "b" / "first.ckpt", lambda file: file.write(b"first"))
    assert (tmp_path / "a" / "b" / "first.ckpt").read_bytes() == b"first"


def test_everyone_may_read_it_whom_the_umask_lets(tmp_path):
    write_atomically(tmp_path / "ours.ckpt", lambda file: file.write(b"x"))
    (tmp_path / "plain").write_bytes(b"x")
    ours, plain = (stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("ours.ckpt", "plain"))
    assert ours == plain


TORCHS = RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed")


@pytest.mark.parametrize("error", [FULL, OSError(errno.EDQUOT, "Disk quota exceeded"), TORCHS])
def test_a_full_disk_while_writing_keeps_the_older_file(target, error):
    def half(file):
        file.write(b"ne")
        raise error

    with pytest.raises(TrainingError, match="The disk is full") as raised:
        write_atomically(target, half)
    assert untouched(target)
    assert "the one written before is whole" in str(raised.value)
    assert f"type deitlt train resume={target.parent.parent}" in str(raised.value)


def test_a_full_disk_at_the_end_keeps_the_older_file_and_leaves_no_first_one(target, monkeypatch):
    monkeypatch.setattr(os, "fsync", fails(FULL))
    with pytest.raises(TrainingError, match="resume="):
        write_atomically(target, lambda file: file.write(b"newer"))
    assert untouched(target)
    target.unlink()
    with pytest.raises(TrainingError, match="start anew"):
        write_atomically(target, lambda file: file.write(b"newer"))
    assert not list(target.parent.iterdir())


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
@pytest.mark.parametrize("numbers", [1, 10_000])  # within a file's buffer, and beyond it
def test_torchs_own_error_on_a_device_without_room_is_known(target, numbers):
    def save(file):
        with open("/dev/full", "wb") as full:
            torch.save({"a": torch.randn(numbers)}, full)

    with pytest.raises(TrainingError, match="The disk is full"):
        write_atomically(target, save)
    assert untouched(target)


@pytest.mark.parametrize("error", [PermissionError(13, "no"), RuntimeError("a bug"), KeyboardInterrupt()])
def test_other_errors_pass_and_leave_no_temporary_file(target, error):
    with pytest.raises(type(error)):
        write_atomically(target, fails(error))
    assert untouched(target)


def saving(make_trainer, folder, **options):
    last = ModelCheckpoint(folder, "last", save_on_train_epoch_end=True, enable_version_counter=False)
    plugins = [AtomicCheckpointIO()]
    return make_trainer(callbacks=[last], plugins=plugins, enable_checkpointing=True, **options)


def test_a_trainer_writes_and_resumes_through_it(make_trainer, student_module, student_batches, tmp_path):
    module, path = student_module(), tmp_path / "last.ckpt"
    saving(make_trainer, tmp_path, max_epochs=1).fit(module, student_batches())
    stored = read_checkpoint(path)
    assert stored["global_step"] == 6
    assert all(torch.equal(stored["state_dict"][name], value) for name, value in module.state_dict().items())
    trainer = saving(make_trainer, tmp_path, max_epochs=2)
    trainer.fit(student_module(), student_batches(), ckpt_path=path)
    assert trainer.global_step == 12
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["last.ckpt"]
    torch.save({"state_dict": {}, "args": RunsCode(tmp_path / "proof")}, tmp_path / "evil.ckpt")
    with pytest.raises(CheckpointError, match="wants to run code"):
        saving(make_trainer, tmp_path).fit(student_module(), student_batches(), ckpt_path=tmp_path / "evil.ckpt")
    assert not (tmp_path / "proof").exists()


def touch(*paths):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


def test_a_run_is_searched_stage_by_stage_the_chosen_epoch_first(tmp_path):
    touch(tmp_path / "any.name", tmp_path / "teacher/last.ckpt")
    assert find_checkpoint(str(tmp_path / "any.name"), ("student",)) == tmp_path / "any.name"
    assert find_checkpoint(tmp_path, ("student", "teacher")) == tmp_path / "teacher/last.ckpt"
    touch(tmp_path / "student/last.ckpt")
    assert find_checkpoint(tmp_path, ("student", "teacher")) == tmp_path / "student/last.ckpt"
    assert find_checkpoint(tmp_path, ("teacher",)) == tmp_path / "teacher/last.ckpt"
    touch(tmp_path / "student/best.ckpt")
    assert find_checkpoint(tmp_path / "student", ("student",)) == tmp_path / "student/best.ckpt"
    assert find_checkpoint(tmp_path, ("student",)) == tmp_path / "student/best.ckpt"


def test_a_run_without_the_stage_says_which_it_has(tmp_path):
    with pytest.raises(CheckpointError, match=r"there should be .*student/last\.ckpt or .*teacher/last\.ckpt"):
        find_checkpoint(tmp_path, ("student", "teacher"))
    with pytest.raises(CheckpointError, match=r"holds no checkpoint; type checkpoint=RUN with a folder that deitlt"):
        find_checkpoint(tmp_path, ("baseline",), "stage")
    with pytest.raises(CheckpointError, match=r"no checkpoint .*nowhere; type the path of a \.ckpt file"):
        find_checkpoint(tmp_path / "nowhere", ("student",))
    touch(tmp_path / "student/last.ckpt", tmp_path / "teacher/best.ckpt")
    with pytest.raises(CheckpointError) as missing:
        find_checkpoint(tmp_path, ("baseline",), "stage")
    sentence = "has no baseline, but student and teacher; type stage=student or stage=teacher."
    assert str(missing.value) == f"{tmp_path} {sentence}"
    with pytest.raises(CheckpointError, match=r"has no baseline, but student and teacher; type another run's folder"):
        find_checkpoint(tmp_path, ("baseline",))
