import os
import pickle
import zipfile

import pytest
import torch

from deitlt.checkpoints import read_checkpoint
from deitlt.errors import CheckpointError

pytestmark = pytest.mark.filterwarnings("ignore:Detected pickle protocol")
CONTENT = {"state_dict": {"network.weight": torch.arange(3.0)}, "epoch": 4, "deitlt": {"counts": [3, 1]}}


class RunsCode:
    """Its unpickling makes a folder, which proves that code ran."""

    def __init__(self, proof):
        self.proof = str(proof)

    def __reduce__(self):
        return os.mkdir, (self.proof,)


def test_plain_containers_and_tensors_come_back(tmp_path):
    torch.save(CONTENT, tmp_path / "a.ckpt")
    found = read_checkpoint(str(tmp_path / "a.ckpt"))
    assert torch.equal(found["state_dict"]["network.weight"], torch.arange(3.0))
    assert found["deitlt"] == {"counts": [3, 1]}
    assert found["epoch"] == 4


@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_that_would_run_code_does_not(tmp_path, protocol):
    path, proof = tmp_path / "evil.ckpt", tmp_path / "proof"
    path.write_bytes(pickle.dumps({"state_dict": RunsCode(proof)}, protocol=protocol))
    with pytest.raises(CheckpointError, match=r"evil\.ckpt.*type the path of a"):
        read_checkpoint(path)
    assert not proof.exists()
    pickle.loads(path.read_bytes())  # the file would have worked on an open unpickler
    assert proof.exists()


@pytest.mark.parametrize("zipped", [True, False])
def test_a_checkpoint_of_torch_that_would_run_code_is_told_so(tmp_path, zipped):
    path, proof = tmp_path / "evil.ckpt", tmp_path / "proof"
    torch.save({**CONTENT, "args": RunsCode(proof)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match=r"evil\.ckpt wants to run code while it is read, and was refused"):
        read_checkpoint(path)
    assert not proof.exists()
    torch.load(path, weights_only=False)
    assert proof.exists()


@pytest.mark.parametrize("content", [b"", b"\x00", b"hello, this is no checkpoint\n" * 50, b"PK\x03\x04", b"\x80\x02}"])
def test_what_is_no_checkpoint_is_told_so(tmp_path, content):
    path = tmp_path / "notes.ckpt"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"notes\.ckpt is no checkpoint; type the path"):
        read_checkpoint(path)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("share", [0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99])
def test_a_truncated_checkpoint_is_no_checkpoint(tmp_path, share, zipped):
    path = tmp_path / "cut.ckpt"
    torch.save({**CONTENT, "weights": torch.randn(1000)}, path, _use_new_zipfile_serialization=zipped)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(CheckpointError, match=r"cut\.ckpt is no checkpoint"):
        read_checkpoint(path)


def test_another_zip_is_no_checkpoint(tmp_path):
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        archive.writestr("a.txt", "hello")
    with pytest.raises(CheckpointError, match=r"images\.zip is no checkpoint"):
        read_checkpoint(tmp_path / "images.zip")


def test_damaged_bytes_never_raise_anything_else(tmp_path):
    path = tmp_path / "damaged.ckpt"
    torch.save(CONTENT, path, _use_new_zipfile_serialization=False)
    whole, stream = bytearray(path.read_bytes()), torch.Generator().manual_seed(0)
    for _ in range(300):
        damaged = whole.copy()
        for place in torch.randint(len(whole), (4,), generator=stream).tolist():
            damaged[place] = int(torch.randint(256, (1,), generator=stream))
        path.write_bytes(damaged)
        try:
            read_checkpoint(path)
        except CheckpointError as error:
            assert "damaged.ckpt" in str(error)  # noqa: PT017


@pytest.mark.parametrize("content", [torch.ones(3), [1, 2], 7])
def test_what_holds_something_else_is_told_so(tmp_path, content):
    torch.save(content, tmp_path / "tensor.pt")
    with pytest.raises(CheckpointError, match=rf"tensor\.pt holds a {type(content).__name__}, no checkpoint"):
        read_checkpoint(tmp_path / "tensor.pt")


@pytest.mark.parametrize("name", ["missing.ckpt", "."])
def test_a_missing_file_is_named(tmp_path, name):
    with pytest.raises(CheckpointError, match=r"There is no checkpoint .*; type the path of a \.ckpt file"):
        read_checkpoint(tmp_path / name)


def test_a_file_that_may_not_be_read_is_told_so(tmp_path, monkeypatch):
    torch.save(CONTENT, tmp_path / "a.ckpt")

    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(torch, "load", refuse)
    with pytest.raises(CheckpointError, match=r"a\.ckpt may not be read"):
        read_checkpoint(tmp_path / "a.ckpt")


def test_tensors_come_onto_the_cpu(tmp_path, monkeypatch):
    torch.save(CONTENT, tmp_path / "a.ckpt")
    asked = {}
    load = torch.load
    monkeypatch.setattr(torch, "load", lambda path, **options: asked.update(options) or load(path, **options))
    read_checkpoint(tmp_path / "a.ckpt")
    assert asked == {"map_location": "cpu", "weights_only": True}
