import pickle
import socket
import tarfile
import urllib.error
from pathlib import Path

import numpy as np
import pytest
from torchvision.datasets import CIFAR10, CIFAR100
from torchvision.datasets.utils import calculate_md5

import deitlt.data.datasets as cifar
from deitlt.data.datasets import DataRequest, get_dataset
from deitlt.errors import DataError

NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def write_cifar10(root: Path, monkeypatch) -> Path:
    """Tiny files in CIFAR-10's format, and their checksums in torchvision's reader."""
    folder = root / CIFAR10.base_folder
    folder.mkdir(parents=True)

    def dump(name, content):
        (folder / name).write_bytes(pickle.dumps(content))
        return calculate_md5(folder / name)

    def batch(name):
        data = np.full((20, 3072), 7, np.uint8)
        return [name, dump(name, {"data": data, "labels": list(range(10)) * 2})]

    monkeypatch.setattr(CIFAR10, "train_list", [batch("data_batch_1"), batch("data_batch_2")])
    monkeypatch.setattr(CIFAR10, "test_list", [batch("test_batch")])
    meta = {**CIFAR10.meta, "md5": dump("batches.meta", {"label_names": NAMES})}
    monkeypatch.setattr(CIFAR10, "meta", meta)
    return folder


def no_network(self):
    raise urllib.error.URLError("Name or service not known")


@pytest.mark.parametrize("inside", [False, True])
def test_reads_files_that_are_there(tmp_path, monkeypatch, inside):
    folder = write_cifar10(tmp_path, monkeypatch)
    monkeypatch.setattr(CIFAR10, "download", no_network)
    splits = get_dataset("cifar10").read(DataRequest(folder if inside else tmp_path, download=True))
    assert (len(splits.train), len(splits.test)) == (40, 20)
    assert splits.class_names == tuple(NAMES)
    assert splits.train.labels[:3].tolist() == [0, 1, 2]
    assert splits.train[0].size == (32, 32)


@pytest.mark.parametrize(("name", "folder"), [("cifar10", "cifar-10-batches-py"), ("cifar100", "cifar-100-python")])
def test_absent_files_are_one_sentence(tmp_path, name, folder):
    with pytest.raises(DataError, match=rf"is not in {tmp_path}.*{folder}.*data\.root=FOLDER") as caught:
        get_dataset(name).read(DataRequest(tmp_path, download=False))
    assert "data.download=true" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_failed_download_leaves_nothing(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(CIFAR100, "download", no_network)
    root = tmp_path / "not" / "yet"
    with pytest.raises(DataError, match=r"download failed: .*Name or service") as caught:
        get_dataset("cifar100").read(DataRequest(root, download=True))
    assert "\n" not in str(caught.value)
    assert caught.value.__suppress_context__
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")
    assert socket.getdefaulttimeout() is None


def test_half_a_download_leaves_nothing(tmp_path, monkeypatch):
    def half(self):
        (Path(self.root) / self.filename).write_bytes(b"half")
        raise RuntimeError("File not found or corrupted.")

    monkeypatch.setattr(CIFAR10, "download", half)
    with pytest.raises(DataError, match="not found or corrupted"):
        get_dataset("cifar10").read(DataRequest(tmp_path, download=True))
    assert list(tmp_path.iterdir()) == []


def test_download_moves_whole_files_into_place(tmp_path, monkeypatch):
    ready = write_cifar10(tmp_path / "server", monkeypatch)
    monkeypatch.setattr(CIFAR10, "download", lambda self: ready.rename(Path(self.root) / self.base_folder))
    root = tmp_path / "new" / "data"
    splits = get_dataset("cifar10").read(DataRequest(root, download=True))
    assert len(splits.train) == 40
    assert [path.name for path in root.iterdir()] == [CIFAR10.base_folder]


def test_archive_beside_needs_no_network(tmp_path, monkeypatch):
    folder = write_cifar10(tmp_path / "other", monkeypatch)
    with tarfile.open(tmp_path / CIFAR10.filename, "w:gz") as archive:
        archive.add(folder, CIFAR10.base_folder)
    monkeypatch.setattr(CIFAR10, "download", no_network)
    splits = get_dataset("cifar10").read(DataRequest(tmp_path, download=True))
    assert len(splits.test) == 20


def test_damaged_files_are_named(tmp_path, monkeypatch):
    folder = write_cifar10(tmp_path, monkeypatch)
    (folder / "test_batch").write_bytes(b"half")
    with pytest.raises(DataError, match=rf"{folder} is incomplete or damaged.*data\.download=true"):
        get_dataset("cifar10").read(DataRequest(tmp_path, download=True))


def test_authors_statistics():
    assert cifar.CIFAR_NORMALISATION.mean == (0.4914, 0.4822, 0.4465)
    assert cifar.CIFAR_NORMALISATION.std == (0.2023, 0.1994, 0.2010)
