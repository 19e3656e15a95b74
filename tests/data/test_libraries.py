import csv
import hashlib
import json
import pickle
import sys

import datasets
import huggingface_hub
import numpy as np
import pytest
import scipy.io
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value
from PIL import Image
from torchvision.datasets import SVHN

from deitlt.cli import main
from deitlt.data import LongTailDataModule
from deitlt.data.datasets import DataRequest
from deitlt.data.file_checks import find_broken
from deitlt.data.images import ArrayImages, EncodedImages, FileImages, identities, path_of
from deitlt.data.libraries import classification_sets, read_hf, read_torchvision
from deitlt.errors import ConfigError, DataError

NAMES = ["ant", "bee", "cat"]
LABELS = {"train": [0, 1, 2, 0, 1, 0, 0, 1], "test": [2, 1, 0]}


def pixels(split, index):
    """A picture of its own size."""
    return np.random.default_rng([len(split), index]).integers(0, 256, (9 + index, 12, 3)).astype(np.uint8)


def pictures(split):
    return [Image.fromarray(pixels(split, i)) for i in range(len(LABELS[split]))]


def hf_splits(labels=LABELS, label=None, name="label", **more):
    """Splits with pictures of differing sizes and the classes ant, bee and cat."""
    features = {"id": Value("string"), "image": datasets.Image(), name: label or ClassLabel(names=NAMES)}
    features |= {key: kind for key, (kind, _) in more.items()}
    return DatasetDict(
        {
            split: Dataset.from_dict(
                {
                    "id": [f"{split}{i}" for i in range(len(values))],
                    "image": pictures(split),
                    name: values,
                    **{key: [value] * len(values) for key, (_, value) in more.items()},
                },
                features=Features(features),
            )
            for split, values in labels.items()
        }
    )


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    for module in (datasets.config, huggingface_hub.constants):
        monkeypatch.setattr(module, "HF_HUB_OFFLINE", True)


@pytest.fixture
def saved(tmp_path):
    hf_splits().save_to_disk(tmp_path / "insects")
    return tmp_path / "insects"


def opened(path, **named):
    return read_hf(DataRequest(name="hf", path=str(path), **named))


def check(splits):
    assert splits.class_names == tuple(NAMES)
    for name, source in (("train", splits.train), ("test", splits.test)):
        assert source.labels.tolist() == LABELS[name]
        for i in range(len(source)):
            assert np.array_equal(np.asarray(source[i]), pixels(name, i))


# Hugging Face's


def test_a_saved_data_set_is_read_from_its_own_files_image_by_image(saved):
    splits = opened(saved)
    check(splits)
    assert isinstance(splits.train, EncodedImages)
    copy = pickle.loads(pickle.dumps(splits.train))
    assert len(pickle.dumps(splits.train)) < 20_000 < 100 * len(splits.train) * 10**3
    assert np.array_equal(np.asarray(copy[3]), pixels("train", 3))
    assert path_of(splits.train)(3) == f"{saved} train[3]"
    marks = identities(splits.train, np.arange(8))
    assert len(set(marks)) == 8


def test_a_folder_of_parquet_files_is_read_as_it_would_be_from_the_hub(tmp_path):
    (tmp_path / "insects").mkdir()
    for split, rows in hf_splits().items():
        rows.to_parquet(tmp_path / "insects" / f"{split}.parquet")
    check(opened(tmp_path / "insects"))


def test_image_files_stay_files(tmp_path):
    for split, labels in LABELS.items():
        for i, (picture, label) in enumerate(zip(pictures(split), labels, strict=True)):
            file = tmp_path / "insects" / split / NAMES[label] / f"{i}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            picture.save(file)
    splits = opened(tmp_path / "insects")
    assert isinstance(splits.train, FileImages)
    assert splits.class_names == tuple(NAMES)
    assert {path_of(splits.test)(i) for i in range(3)} == set(map(str, (tmp_path / "insects" / "test").glob("*/*.png")))
    assert np.bincount(splits.train.labels).tolist() == [4, 3, 1]


def test_text_and_numbers_are_classes_by_the_training_splits_values(tmp_path):
    words = {split: [["wasp", "ant", "bee"][label] for label in labels] for split, labels in LABELS.items()}
    hf_splits(words, Value("string"), name="kind").save_to_disk(tmp_path / "words")
    splits = opened(tmp_path / "words", label_column="kind")
    assert splits.class_names == ("ant", "bee", "wasp")
    assert splits.test.labels.tolist() == [1, 0, 2]
    numbers = {split: [[30, 7, 9][label] for label in labels] for split, labels in LABELS.items()}
    hf_splits(numbers, Value("int32")).save_to_disk(tmp_path / "numbers")
    splits = opened(tmp_path / "numbers")
    assert (splits.class_names, splits.labels) == (("7", "9", "30"), (7, 9, 30))
    assert splits.test.labels.tolist() == [1, 0, 2]


def test_the_first_split_that_is_there_is_tested_on_unless_another_is_named(tmp_path):
    whole = hf_splits()
    few = whole["test"].select([0, 1])
    DatasetDict(train=whole["train"], val=whole["test"], validation=few).save_to_disk(tmp_path / "insects")
    assert len(opened(tmp_path / "insects").test) == 2
    assert len(opened(tmp_path / "insects", test_split="val").test) == 3


def test_a_subset_is_chosen_by_its_name(tmp_path):
    folder = tmp_path / "insects"
    for subset, picked in (("all", slice(None)), ("few", slice(3))):
        for split, rows in hf_splits().items():
            (folder / subset).mkdir(parents=True, exist_ok=True)
            rows.select(range(len(rows))[picked]).to_parquet(folder / subset / f"{split}.parquet")
    (folder / "README.md").write_text(
        "---\nconfigs:\n- config_name: all\n  data_dir: all\n- config_name: few\n  data_dir: few\n---\n"
    )
    assert len(opened(folder, subset="few").train) == 3
    with pytest.raises(ConfigError, match=r"has several subsets; type data\.subset=NAME, one of all, few\."):
        opened(folder)
    with pytest.raises(ConfigError, match=r"has no subset 'fwe'; type data\.subset=NAME, one of all, few\."):
        opened(folder, subset="fwe")


NO_LABELS = {"train": [0, -1, 2, 0, 1, 0, 0, 1], "test": [2, 1, 0]}
REFUSED = {
    "no label": (
        {"label": Value("float32"), "labels": {k: [0.5] * len(v) for k, v in LABELS.items()}},
        {},
        r"no column that says that it holds labels \(id: string, image: Image, label: float32\); type "
        r"data\.label_column=NAME\.$",
    ),
    "label of a strange type": (
        {"label": Value("float32"), "labels": {k: [0.5] * len(v) for k, v in LABELS.items()}},
        {"label_column": "label"},
        r"The column 'label' of .* is of float32, and classes are text or whole numbers; type data\.label_column=NAME",
    ),
    "two of labels": ({"fine": (ClassLabel(names=["x"]), 0)}, {}, r"has several label columns .* data\.label_column="),
    "no such column": (
        {},
        {"label_column": "lable"},
        r"data\.label_column=lable is no column of .*did you mean 'label'",
    ),
    "no image": (
        {},
        {"image_column": "label"},
        r"The column 'label' of .* holds no images, but ClassLabel; type data\.im",
    ),
    "no split": ({}, {"test_split": "dev"}, r"has no split 'dev', but train, test; type data\.test_split=NAME\.$"),
    "one split twice": (
        {},
        {"test_split": "train"},
        r"data\.train_split=train is the split to test on, too; type data\.t",
    ),
    "unlabelled": ({"labels": NO_LABELS}, {}, r"Image 1 of .* train has no label; type data\.test_split=NAME"),
}


@pytest.mark.parametrize(("made", "named", "said"), REFUSED.values(), ids=REFUSED)
def test_a_data_set_without_what_is_needed_is_refused_in_one_sentence(tmp_path, made, named, said):
    hf_splits(**made).save_to_disk(tmp_path / "insects")
    with pytest.raises((ConfigError, DataError), match=said) as caught:
        opened(tmp_path / "insects", **named)
    assert "\n" not in str(caught.value)


def test_a_data_set_of_one_split_or_without_images_is_refused(tmp_path):
    hf_splits()["train"].save_to_disk(tmp_path / "one")
    with pytest.raises(DataError, match=r"has no split 'test', but train; make two of it by train_test_split"):
        opened(tmp_path / "one")
    hf_splits().remove_columns("image").save_to_disk(tmp_path / "words")
    with pytest.raises(DataError, match=r"no column that says that it holds images \(id: string, label: ClassLabel\)"):
        opened(tmp_path / "words")


def test_what_cannot_be_had_is_one_sentence(tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match=r"data\.path has no value yet; type data\.path=FOLDER_OR_NAME\."):
        read_hf(DataRequest(name="hf"))
    (tmp_path / "empty").mkdir()
    for path, said in (
        ("someone/insects", r"someone/insects is no folder, and cannot be had from the Hugging Face Hub \(.*FOLDER"),
        ("insects", "insects is no folder, and cannot be had from the Hugging Face Hub"),
        (tmp_path / "nowhere", "nowhere is no folder, and cannot be had"),
        (tmp_path / "empty", r"empty cannot be read \(.*\); type data\.path=FOLDER"),
    ):
        with pytest.raises(DataError, match=said) as caught:
            opened(path)
        assert "\n" not in str(caught.value)

    def refuse(*_):
        raise datasets.exceptions.DatasetNotFoundError("gated")

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    with pytest.raises(DataError, match=r"nor a data set that the Hugging Face Hub shows you; .* hf auth login"):
        opened("someone/insects")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ConfigError, match=r"datasets, which are not installed; type pip install 'deitlt\[hf\]'\."):
        opened(tmp_path)


def test_a_run_on_a_long_tail_of_it_is_measured_again_from_another_folder(saved, tmp_path, tiny_vit, monkeypatch):
    monkeypatch.chdir(tmp_path)
    kept = [word for word in tiny_vit if not word.startswith("data.")]
    words = ["data=hf", "data.path=insects", "data.max_count=3", "data.imbalance_factor=0.34", "data.group_cuts=[1,2]"]
    more = ["data.num_workers=0", "data.verify=true", "student.image_size=16", "paths.output_dir=run"]
    assert main(["train", *kept, *words, *more]) == 0
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["class_names"] == NAMES
    assert metrics["counts"] == [3, 1, 1]
    assert metrics["data"] == "hf insects"
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert main(["evaluate", f"checkpoint={tmp_path / 'run'}", "paths.output_dir=seen"]) == 0
    saved.rename(tmp_path / "moved")
    assert (
        main(
            ["evaluate", f"checkpoint={tmp_path / 'run'}", f"data_root={tmp_path / 'moved'}", "paths.output_dir=again"]
        )
        == 0
    )


def test_an_image_that_cannot_be_decoded_is_named_and_left_out_where_that_is_asked(tmp_path):
    whole = hf_splits().cast_column("image", datasets.Image(decode=False))

    def spoil(row, index):
        return {"image": {"bytes": b"no image", "path": None}} if index == 3 else row

    whole["train"] = whole["train"].map(spoil, with_indices=True, features=whole["train"].features)
    whole.save_to_disk(tmp_path / "insects")
    keys = {"name": "hf", "path": str(tmp_path / "insects"), "group_cuts": (1, 2), "image_size": 16}
    module = LongTailDataModule.from_keys(**keys, on_broken="skip")
    broken = [f"{tmp_path / 'insects'} train[3]"]
    assert module.check_files() == find_broken(module.splits.train) == broken
    assert LongTailDataModule.from_keys(**keys, exclude=broken).info.counts == (3, 3, 1)
    with pytest.raises(DataError, match=r"train\[3\] cannot be decoded as an image; replace it"):
        LongTailDataModule.from_keys(**keys).check_files(tmp_path / "broken.txt")
    with pytest.raises(DataError, match=r"train\[3\] cannot be decoded as an image \(of no known kind\)"):
        module.splits.train[3]


# torchvision's


def read(dataset, root, **named):
    return read_torchvision(DataRequest(name="torchvision", dataset=dataset, root=root, **named))


def test_the_sets_are_found_by_what_their_constructors_take():
    found = set(classification_sets())
    assert found >= {"svhn", "mnist", "fashionmnist", "qmnist", "gtsrb", "stl10", "dtd", "food101", "flowers102"}
    assert found >= {"country211", "fgvcaircraft", "oxfordiiitpet", "imagenet", "places365", "usps", "cifar100"}
    assert found.isdisjoint({"eurosat", "emnist", "kittiflow", "hmdb51", "fakedata", "caltech101", "imagefolder"})
    with pytest.raises(ConfigError, match=r"data\.dataset=SVHM is no classification set .*; did you mean 'SVHN'\?"):
        read("SVHM", ".")
    with pytest.raises(
        ConfigError, match=r"data\.dataset=EuroSAT is no classification set of torchvision's that has a t"
    ):
        read("EuroSAT", ".")


@pytest.fixture
def svhn(tmp_path, monkeypatch):
    """SVHN's own files: images [32, 32, 3, N] and labels [N, 1], the digit 0 as 10."""
    rng, sums = np.random.default_rng(0), {}
    for split, count in (("train", 30), ("test", 10)):
        images = rng.integers(0, 256, (32, 32, 3, count), dtype=np.uint8)
        file = tmp_path / f"{split}_32x32.mat"
        scipy.io.savemat(file, {"X": images, "y": 1 + np.arange(count, dtype=np.uint8)[:, None] % 10})
        sums[split] = ["nowhere", file.name, hashlib.md5(file.read_bytes()).hexdigest()]
    monkeypatch.setattr(SVHN, "split_list", sums)
    return tmp_path


def test_svhn_is_held_in_memory_as_torchvision_reads_it(svhn):
    splits = read("svhn", svhn)
    assert splits.class_names == tuple("0123456789")
    assert isinstance(splits.train, ArrayImages)
    picture, label = SVHN(svhn, "train")[7]
    assert np.array_equal(np.asarray(splits.train[7]), np.asarray(picture))
    assert splits.train.labels[7] == label == 8
    assert splits.train.labels[9] == 0
    module = LongTailDataModule.from_keys(
        "torchvision", dataset="SVHN", root=svhn, imbalance_factor=0.34, val_fraction=0.2, group_cuts=(3, 7)
    )
    assert sum(module.info.counts) + len(module.splits.val) == 15
    (tmp := svhn / "train_32x32.mat").write_bytes(b"")
    with pytest.raises(DataError, match=rf"SVHN is not in {svhn}, or is damaged there \(.*data\.root=FOLDER"):
        read("SVHN", svhn / ".", download=False)
    assert tmp.exists()


def test_files_stay_files_and_name_their_classes(tmp_path):
    for split in ("train", "valid", "test"):
        for name in ("AD", "AE"):
            file = tmp_path / "country211" / split / name / "1.jpg"
            file.parent.mkdir(parents=True)
            Image.new("RGB", (20, 30)).save(file)
    splits = read("Country211", tmp_path)
    assert splits.class_names == ("AD", "AE")
    assert isinstance(splits.train, FileImages)
    assert path_of(splits.test)(1) == str(tmp_path / "country211" / "test" / "AE" / "1.jpg")
    assert "valid" in path_of(read("Country211", tmp_path, test_split="valid").test)(0)
    with pytest.raises(DataError, match=r"Country211 has no split 'dev' \(.*valid.*\); type data\.train_split="):
        read("Country211", tmp_path, test_split="dev")


@pytest.fixture
def gtsrb(tmp_path):
    """Traffic signs of differing sizes as they are published: PPM files, those of the test in one folder."""
    folder, rows = tmp_path / "gtsrb", []
    for split, labels in LABELS.items():
        for i, (picture, label) in enumerate(zip(pictures(split), labels, strict=True)):
            place = f"Training/{label:05}" if split == "train" else "Final_Test/Images"
            file = folder / "GTSRB" / place / f"{i:05}.ppm"
            file.parent.mkdir(parents=True, exist_ok=True)
            picture.save(file)
            rows += [[file.name, label]] if split == "test" else []
    with (folder / "GT-final_test.csv").open("w", newline="") as file:
        csv.writer(file, delimiter=";").writerows([["Filename", "ClassId"], *rows])
    return tmp_path


def test_images_of_differing_sizes_are_read_when_asked_for(gtsrb):
    splits = read("GTSRB", gtsrb)
    assert isinstance(splits.train, EncodedImages)
    assert splits.class_names == ("0", "1", "2")
    assert sorted(splits.train.labels.tolist()) == sorted(LABELS["train"])
    for i, label in enumerate(LABELS["test"]):
        assert np.array_equal(np.asarray(splits.test[i]), pixels("test", i))
        assert splits.test.labels[i] == label
    assert path_of(splits.test)(2) == "GTSRB test[2]"
    assert len(set(identities(splits.train, np.arange(8)))) == 8


def test_an_image_that_torchvision_cannot_read_is_named(gtsrb):
    (gtsrb / "gtsrb" / "GTSRB" / "Training" / "00000" / "00000.ppm").write_text("no picture")
    with pytest.raises(DataError, match=r"^Image 0 of GTSRB train cannot be read \(.*\.ppm.*\); replace its file\.$"):
        read("GTSRB", gtsrb)


def test_inspect_shows_them(gtsrb, tiny, capfd):
    kept = [word for word in tiny if not word.startswith("data.")]
    words = ["data=torchvision", "data.dataset=GTSRB", f"data.root={gtsrb}", "data.group_cuts=[1,2]"]
    assert (
        main(["inspect", *kept, *words, "data.verify=true", "data.num_workers=0", f"paths.output_dir={gtsrb}/seen"])
        == 0
    )
    printed = capfd.readouterr().out
    assert "12x9 to 12x15" in printed


def test_what_is_absent_or_no_classification_set_is_one_sentence(tmp_path):
    with pytest.raises(ConfigError, match=r"data\.dataset has no value yet; type data\.dataset=NAME\."):
        read(None, tmp_path)
    for dataset, named, said in (
        ("GTSRB", {}, r"GTSRB is not in .*, or is damaged there \(.*\); put its files there .* or data\.download=true"),
        (
            "FER2013",
            {"download": True},
            r"FER2013 is not in .*; put its files there as torchvision lays them out, type d",
        ),
        ("MNIST", {"test_split": "val"}, r"data\.test_split=val: MNIST has .* not named; type data\.test_split=null"),
        ("CelebA", {}, "CelebA is not in"),
    ):
        with pytest.raises((ConfigError, DataError), match=said) as caught:
            read(dataset, tmp_path, **named)
        assert "\n" not in str(caught.value)


def test_a_set_whose_targets_are_no_classes_is_refused(tmp_path):
    for name, content in (("image_2", None), ("label_2", "Car 0 0 0 1 1 2 2 1 1 1 0 0 9 0\n")):
        folder = tmp_path / "Kitti" / "raw" / "training" / name
        folder.mkdir(parents=True)
        Image.new("RGB", (4, 4)).save(folder / "0.png") if content is None else (folder / "0.txt").write_text(content)
    with pytest.raises(DataError, match=r"Kitti train tells no class of an image, but list; type data\.dataset=NAME"):
        read("Kitti", tmp_path)


def test_a_set_that_cannot_be_fetched_is_one_sentence(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    with pytest.raises(
        DataError, match=r"FashionMNIST is not in .*, and could not be fetched \(.*data\.root=FOLDER"
    ) as told:
        read("FashionMNIST", tmp_path, download=True)
    assert "\n" not in str(told.value)
