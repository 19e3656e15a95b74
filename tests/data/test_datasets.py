import pickle
import shutil
import socket
import tarfile
import urllib.error
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from torchvision.datasets import CIFAR10, CIFAR100
from torchvision.datasets.utils import calculate_md5

from deitlt.data import datasets, folder
from deitlt.data.datasets import DataRequest, DataSplits, get_dataset, list_datasets, read_digits, register_dataset
from deitlt.data.folder import read_folder, read_image_lists
from deitlt.data.images import ArrayImages
from deitlt.data.lists import INAT18_NORMALISATION
from deitlt.errors import ConfigError, DataError
from deitlt.longtail import class_counts
from deitlt.transforms import IMAGENET
from deitlt.types import Normalisation


def read_nothing(request: DataRequest) -> DataSplits:
    empty = ArrayImages(np.zeros((0, 1, 1, 3), np.uint8), [])
    return DataSplits(empty, empty, ())


@pytest.fixture(autouse=True)
def _own_registry(monkeypatch):
    monkeypatch.setattr(datasets, "_SPECS", dict(datasets._SPECS))


CIFAR = Normalisation((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))  # the authors'
SPECS = {
    "cifar10": (32, (3, 7), CIFAR),
    "cifar100": (32, (36, 71), CIFAR),
    "digits": (8, (3, 7), None),
    "folder": (224, None, None),
    "hf": (224, None, IMAGENET),
    "imagenet_lt": (224, (390, 835), IMAGENET),
    "inat18": (224, (842, 4543), INAT18_NORMALISATION),
    "lists": (224, None, None),
    "places_lt": (224, None, IMAGENET),
    "torchvision": (224, None, IMAGENET),
}


def test_the_data_sets_are_those_of_the_papers():
    registered_by_tests = ("mine", "small")
    assert [name for name in list_datasets() if not name.startswith(registered_by_tests)] == sorted(SPECS)
    for name, (size, cuts, normalisation) in SPECS.items():
        spec = get_dataset(name)
        assert (spec.name, spec.image_size, spec.group_cuts) == (name, size, cuts)
        assert normalisation in (None, spec.normalisation)
        assert len(spec.description) < 90
    assert INAT18_NORMALISATION.mean == (0.466, 0.471, 0.380)


def test_published_counts_are_those_of_the_tails_that_are_drawn():
    for name, classes in (("cifar10", 10), ("cifar100", 100)):
        known = get_dataset(name).published
        for factor in (0.1, 0.02, 0.01):
            assert known["train", factor] == sum(class_counts(classes, 50_000 // classes, factor))
    assert get_dataset("inat18").published["train", None] == 437_513


def test_own_data_set_can_be_registered_twice_the_same_but_not_under_anothers_name():
    spec = replace(get_dataset("folder"), name="mine", read=read_nothing)
    register_dataset(spec)
    register_dataset(spec)
    assert get_dataset("mine").read(DataRequest(Path())).class_names == ()
    with pytest.raises(ConfigError, match=r"'digits' is registered already"):
        register_dataset(replace(spec, name="digits"))


def test_unknown_name_says_the_nearest():
    with pytest.raises(ConfigError, match=r"data\.name=cifar11 .*did you mean 'cifar10"):
        get_dataset("cifar11")
    with pytest.raises(ConfigError, match="type one of cifar10, cifar100, digits, folder"):
        get_dataset("zzz")


REQUEST = DataRequest(root=Path("/nowhere"))


def pixels(source):
    return np.stack([np.asarray(source[i]) for i in range(len(source))])


def test_digits_test_set_is_balanced_and_apart_from_training_and_the_normalisation_fits_the_pixels():
    splits = read_digits(REQUEST)
    assert np.bincount(splits.test.labels).tolist() == [50] * 10
    assert not set(splits.train.indices) & set(splits.test.indices)
    assert splits.class_names == tuple("0123456789")
    values = np.concatenate([pixels(splits.train), pixels(splits.test)]) / 255
    assert values.shape == (1797, 8, 8, 3)
    assert values.max() == 1
    assert np.array_equal(pixels(read_digits(REQUEST).test), pixels(splits.test))
    normalisation = get_dataset("digits").normalisation
    np.testing.assert_allclose(normalisation.mean, values.mean((0, 1, 2)), atol=1e-4)
    np.testing.assert_allclose(normalisation.std, values.std((0, 1, 2)), atol=1e-4)


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


def half(self):
    (Path(self.root) / self.filename).write_bytes(b"half")
    raise RuntimeError("File not found or corrupted.")


@pytest.mark.parametrize(
    ("download", "reason"), [(no_network, "download failed: .*Name or service"), (half, "not found or corrupted")]
)
def test_a_failed_download_leaves_nothing(tmp_path, monkeypatch, capfd, download, reason):
    monkeypatch.setattr(CIFAR100, "download", download)
    root = tmp_path / "not" / "yet"
    with pytest.raises(DataError, match=reason) as caught:
        get_dataset("cifar100").read(DataRequest(root, download=True))
    assert "\n" not in str(caught.value)
    assert caught.value.__suppress_context__
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")
    assert socket.getdefaulttimeout() is None


def test_download_moves_whole_files_into_place(tmp_path, monkeypatch):
    ready = write_cifar10(tmp_path / "server", monkeypatch)
    monkeypatch.setattr(CIFAR10, "download", lambda self: ready.rename(Path(self.root) / self.base_folder))
    root = tmp_path / "new" / "data"
    splits = get_dataset("cifar10").read(DataRequest(root, download=True))
    assert len(splits.train) == 40
    assert [path.name for path in root.iterdir()] == [CIFAR10.base_folder]


@pytest.mark.parametrize("named", [False, True])
def test_archive_needs_no_network(tmp_path, monkeypatch, named):
    folder = write_cifar10(tmp_path / "other", monkeypatch)
    with tarfile.open(tmp_path / CIFAR10.filename, "w:gz") as archive:
        archive.add(folder, CIFAR10.base_folder)
    monkeypatch.setattr(CIFAR10, "download", no_network)
    root = tmp_path / CIFAR10.filename if named else tmp_path
    splits = get_dataset("cifar10").read(DataRequest(root, download=True))
    assert len(splits.test) == 20


def test_damaged_files_are_named(tmp_path, monkeypatch):
    folder = write_cifar10(tmp_path, monkeypatch)
    (folder / "test_batch").write_bytes(b"half")
    with pytest.raises(DataError, match=rf"{folder} is incomplete or damaged.*data\.download=true"):
        get_dataset("cifar10").read(DataRequest(tmp_path, download=True))


# Folders of images


def read(root, **lists):
    return read_folder(DataRequest(root, **lists))


def test_reads_nested_files_of_all_kinds_in_the_order_of_their_names(image_folder):
    splits = read(image_folder)
    assert splits.class_names == ("cat", "dog")
    assert splits.train.labels.tolist() == [0, 0, 0, 1, 1]
    assert [splits.train[i].size for i in range(5)] == [(6, 5)] * 5
    names = [splits.train.path(i).split("train/")[1] for i in range(5)]
    assert names == ["cat/1.jpg", "cat/2.JPEG", "cat/deep/er/3.png", "dog/1.jpg", "dog/2.webp"]
    assert splits.test.labels.tolist() == [0, 1]


def test_hidden_and_other_files_are_passed_over_and_linked_folders_are_read(image_folder, write_image):
    write_image(image_folder / "train/cat/.ipynb_checkpoints/1.jpg")
    (image_folder / "train/cat/._1.jpg").write_bytes(b"mac")
    (image_folder / "train/cat/notes.txt").write_text("x")
    (image_folder / "train/.DS_Store").write_text("x")
    (image_folder / "train/wolf").symlink_to(image_folder / "train/dog")  # is read
    splits = read(image_folder)
    assert splits.class_names == ("cat", "dog", "wolf")
    assert len(splits.train) == 5 + 2


def test_val_serves_where_test_is_absent_and_may_lack_a_class(image_folder):
    shutil.copytree(image_folder / "test" / "cat", image_folder / "val" / "cat")
    assert len(read(image_folder).test) == 2  # of test/
    shutil.rmtree(image_folder / "test")
    splits = read(image_folder)
    assert splits.class_names == ("cat", "dog")
    assert splits.test.labels.tolist() == [0]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda root: shutil.rmtree(root), r"data\.root=.* is not a folder; type data\.root=FOLDER"),
        (lambda root: shutil.rmtree(root / "train"), r"data\.root=.* has no folder train/"),
        (lambda root: shutil.rmtree(root / "test"), r"has neither a folder test/ nor val/"),
        (lambda root: (root / "train/emu").mkdir(), r"class folder .*train/emu holds no image"),
        (lambda root: (root / "test/cat").rename(root / "test/cow"), r"has the class 'cow', which .*train lacks"),
        (
            lambda root: [shutil.rmtree(root / "train" / name) for name in ("cat", "dog")],
            r"train holds no class folder and so no image",
        ),
    ],
)
def test_what_is_missing_is_one_sentence(image_folder, spoil, message):
    spoil(image_folder)
    with pytest.raises(DataError, match=message) as caught:
        read(image_folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("given", "asked"), [("train", "test"), ("test", "train")])
def test_one_list_asks_for_the_other(image_folder, given, asked):
    with pytest.raises(ConfigError, match=rf"data\.{given}_csv needs .*type data\.{asked}_csv=FILE"):
        read(image_folder, **{f"{given}_csv": image_folder / "list.csv"})


TRAIN = "path,label\ntrain/cat/1.jpg,cat\ntrain/dog/1.jpg,dog\n"
TEST = "path,label\ntest/dog/9.png,dog\n"


def read_csv(folder, train=TRAIN, test=TEST, root=None):
    (folder / "a.csv").write_text(train)
    (folder / "b.csv").write_text(test)
    return read(root or folder, train_csv=folder / "a.csv", test_csv=folder / "b.csv")


def test_names_are_sorted_and_kept(image_folder):
    splits = read_csv(image_folder, "label,more,path\ndog,x,train/dog/1.jpg\n\ncat,y,train/cat/1.jpg\n")
    assert splits.class_names == ("cat", "dog")
    assert splits.train.labels.tolist() == [1, 0]
    assert splits.test.labels.tolist() == [1]
    assert splits.train[0].size == (6, 5)


def test_integers_are_class_ids(image_folder):
    rows = [f"train/cat/1.jpg,{i}" for i in (10, *range(10))]
    splits = read_csv(image_folder, "\n".join(["path,label", *rows]), "path,label\ntest/dog/9.png,02\n")
    assert splits.class_names == tuple(str(i) for i in range(11))
    assert splits.train.labels.tolist() == [10, *range(10)]
    assert splits.test.labels.tolist() == [2]


def test_byte_order_mark_and_quotes_of_spreadsheets(image_folder):
    splits = read_csv(image_folder, '\ufeffpath,label\r\n"train/cat/1.jpg","cat, tame"\r\ntrain/dog/1.jpg,dog\r\n')
    assert splits.class_names == ("cat, tame", "dog")


def test_paths_start_at_the_list_or_the_root_or_are_absolute(image_folder):
    lists = image_folder / "train"
    train = f"path,label\ncat/1.jpg,cat\ntest/dog/9.png,dog\n{image_folder}/train/dog/1.jpg,dog\n"
    splits = read_csv(lists, train, root=image_folder)
    assert len(splits.train) == 3


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ("file,label\nx,y\n", r"a\.csv has no column 'path' \(its header is 'file,label'\)"),
        ("path,class\nx,y\n", r"a\.csv has no column 'label'"),
        ("", r"a\.csv has no column 'path'"),
        ("path,label\n", r"a\.csv lists no image"),
        ("path,label\ntrain/cat/1.jpg\n", r"a\.csv, line 2 has 1 of 2 columns"),
        ("path,label\ntrain/cat/1.jpg,\n", r"a\.csv, line 2: the label '' does not fit"),
        (TRAIN + "gone.jpg,dog\n", r"a\.csv, line 4: there is no file 'gone\.jpg'"),
        (TRAIN + ",dog\n", r"a\.csv, line 4: there is no file ''"),
        ("path,label\ntrain/cat/1.jpg,0\ntrain/cat/1.jpg,1o\n", r"line 3: the label '1o' does not fit"),
        ("path,label\ntrain/cat/1.jpg,-1\n", r"line 2: the label '-1' does not fit"),
        ("path,label\ntrain/cat/1.jpg,0\ntrain/cat/1.jpg,2\n", r"no image of class 1, though .* go up to 2"),
    ],
)
def test_training_list_errors(image_folder, train, message):
    with pytest.raises(DataError, match=message) as caught:
        read_csv(image_folder, train)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("train", "label"),
    [(TRAIN, "cow"), (TRAIN, "0"), (TRAIN, ""), (TRAIN.replace("cat\n", "0\n").replace("dog\n", "1\n"), "2")],
)
def test_label_of_the_test_list_that_is_no_class(image_folder, train, label):
    with pytest.raises(DataError, match=rf"b\.csv, line 3: the label '{label}' is none of .* 2 classes"):
        read_csv(
            image_folder,
            train,
            f"path,label\ntest/dog/9.png,{'1' if '1.jpg,1' in train else 'dog'}\nx.jpg,{label}\n",
        )


def test_missing_and_unreadable_lists(image_folder):
    read_csv(image_folder)
    with pytest.raises(DataError, match=r"none\.csv cannot be read"):
        read_image_lists(image_folder / "none.csv", image_folder / "b.csv", image_folder)
    (image_folder / "c.csv").write_bytes(b"path,label\n\xff\xfe,\x00\n")
    with pytest.raises(DataError, match=r"c\.csv cannot be read as a CSV file in UTF-8"):
        read_image_lists(image_folder / "a.csv", image_folder / "c.csv", image_folder)


# Folders that a recipe expects to be a data set


def expected_folder(tmp_path, names, train, test, monkeypatch):
    monkeypatch.setitem(folder.EXPECTED, "cifar10", ("CIFAR-10", ("ant", "bee"), (3, 2)))
    for split, counts in (("train", train), ("test", test)):
        for name, count in zip(names, counts, strict=True):
            (tmp_path / split / name).mkdir(parents=True)
            for i in range(count):
                (tmp_path / split / name / f"{i}.png").touch()
    return DataRequest(name="folder", root=tmp_path, expects="cifar10")


@pytest.mark.parametrize(
    ("names", "train", "test", "said"),
    [
        (("ant", "cow"), (3, 3), (2, 2), "it lacks the class 'bee'"),
        (("ant", "bee", "cow"), (3, 3, 3), (2, 2, 2), "it has the class 'cow'"),
        (("ant", "bee"), (3, 4), (2, 2), "it has 4 train images of 'bee', not 3"),
        (("ant", "bee"), (3, 3), (1, 2), "it has 1 test images of 'ant', not 2"),
    ],
)
def test_a_folder_of_other_classes_or_counts_than_expected_is_refused(names, train, test, said, tmp_path, monkeypatch):
    request = expected_folder(tmp_path, names, train, test, monkeypatch)
    with pytest.raises(DataError, match=f"is not CIFAR-10, which the recipe is for: {said}; type data.root=FOLDER"):
        read_folder(request)
    assert read_folder(replace(request, expects=None)).class_names == tuple(names)


def test_a_folder_that_is_what_is_expected_is_read(tmp_path, monkeypatch):
    request = expected_folder(tmp_path, ("ant", "bee"), (3, 3), (2, 2), monkeypatch)
    assert read_folder(request).train.labels.tolist() == [0, 0, 0, 1, 1, 1]
