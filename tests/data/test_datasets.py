import pickle
import socket
import tarfile
import urllib.error
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from torchvision.datasets import CIFAR10, CIFAR100
from torchvision.datasets.utils import calculate_md5

from deitlt.data import datasets
from deitlt.data.datasets import DataRequest, DataSplits, get_dataset, list_datasets, read_digits, register_dataset
from deitlt.data.images import ArrayImages
from deitlt.data.splits import SplitOptions, long_tailed
from deitlt.errors import ConfigError, DataError


def read_nothing(request: DataRequest) -> DataSplits:
    empty = ArrayImages(np.zeros((0, 1, 1, 3), np.uint8), [])
    return DataSplits(empty, empty, ())


@pytest.fixture(autouse=True)
def _own_registry(monkeypatch):
    monkeypatch.setattr(datasets, "_SPECS", dict(datasets._SPECS))


def test_built_in_sets_are_listed_sorted():
    assert list_datasets() == ["cifar10", "cifar100", "digits", "folder", "imagenet_lt", "inat18", "lists", "places_lt"]


def test_own_data_set_can_be_registered_twice_the_same():
    spec = replace(get_dataset("folder"), name="mine", read=read_nothing)
    register_dataset(spec)
    register_dataset(spec)
    assert get_dataset("mine").read(DataRequest(Path())).class_names == ()


def test_name_of_another_data_set_is_refused():
    with pytest.raises(ConfigError, match=r"'digits' is registered already"):
        register_dataset(replace(get_dataset("folder"), name="digits"))


def test_unknown_name_says_the_nearest():
    with pytest.raises(ConfigError, match=r"data\.name=cifar11 .*did you mean 'cifar10"):
        get_dataset("cifar11")
    with pytest.raises(ConfigError, match="type one of cifar10, cifar100, digits, folder"):
        get_dataset("zzz")


@pytest.mark.parametrize(
    ("name", "size", "cuts"),
    [("cifar10", 32, (3, 7)), ("cifar100", 32, (36, 71)), ("digits", 8, (3, 7)), ("folder", 224, None)],
)
def test_specs(name, size, cuts):
    spec = get_dataset(name)
    assert (spec.name, spec.image_size, spec.group_cuts) == (name, size, cuts)
    assert len(spec.description) < 90


REQUEST = DataRequest(root=Path("/nowhere"))


def pixels(source):
    return np.stack([np.asarray(source[i]) for i in range(len(source))])


def test_test_set_is_balanced_and_apart_from_the_training_set():
    splits = read_digits(REQUEST)
    assert np.bincount(splits.test.labels).tolist() == [50] * 10
    assert len(splits.train) == 1297
    assert not set(splits.train.indices) & set(splits.test.indices)
    assert splits.class_names == tuple("0123456789")


def test_every_opening_is_the_same():
    first, second = read_digits(REQUEST), read_digits(REQUEST)
    assert np.array_equal(first.test.indices, second.test.indices)
    assert np.array_equal(pixels(first.test), pixels(second.test))


def test_normalisation_fits_the_pixels():
    splits = read_digits(REQUEST)
    values = np.concatenate([pixels(splits.train), pixels(splits.test)]) / 255
    assert values.shape == (1797, 8, 8, 3)
    assert values.max() == 1
    normalisation = get_dataset("digits").normalisation
    np.testing.assert_allclose(normalisation.mean, values.mean((0, 1, 2)), atol=1e-4)
    np.testing.assert_allclose(normalisation.std, values.std((0, 1, 2)), atol=1e-4)


def test_demo_split_falls_from_120_to_6():
    options = SplitOptions(imbalance_factor=0.05, max_count=120)
    result = long_tailed(read_digits(REQUEST), options, (3, 7))
    assert (result.info.counts[0], result.info.counts[-1]) == (120, 6)
    assert len(result.train) == sum(result.info.counts)


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
    assert datasets.CIFAR_NORMALISATION.mean == (0.4914, 0.4822, 0.4465)
    assert datasets.CIFAR_NORMALISATION.std == (0.2023, 0.1994, 0.2010)
