import json
import os

import numpy as np
import pytest
from tests.data.miniatures import counts_of, make_imagenet_lt, make_inat18, make_places_lt

from deitlt.data import LongTailDataModule, get_dataset, list_datasets
from deitlt.data.file_checks import Lacking, find_missing
from deitlt.data.images import path_of
from deitlt.data.large import INAT18_NORMALISATION
from deitlt.errors import ConfigError, DataError

MINIATURES = {"imagenet_lt": make_imagenet_lt, "places_lt": make_places_lt, "inat18": make_inat18}


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def root(tmp_path):
    return tmp_path / "data"


def opened(name, root, **options):
    options = {"group_cuts": (1, 2), "image_size": 16, "batch_size": 4} | options
    return LongTailDataModule.from_keys(name=name, root=root, **options)


def test_the_published_data_sets_are_known():
    assert {"imagenet_lt", "places_lt", "inat18", "lists"} <= set(list_datasets())
    assert get_dataset("imagenet_lt").group_cuts == (390, 835)
    assert get_dataset("inat18").group_cuts == (842, 4543)
    assert get_dataset("inat18").normalisation == INAT18_NORMALISATION
    assert INAT18_NORMALISATION.mean == (0.466, 0.471, 0.380)
    assert get_dataset("places_lt").group_cuts is None


@pytest.mark.parametrize("name", MINIATURES)
def test_a_miniature_is_opened_by_its_published_lists(name, root):
    overrides = MINIATURES[name](root)
    assert overrides[:2] == [f"data={name}", f"data.root={root}"]
    datamodule = opened(name, root, verify=False)
    counts = counts_of(6, 8, 2)
    assert (
        datamodule.info.counts
        == tuple(sorted(counts, reverse=True))
        == tuple(counts[c] for c in datamodule.info.labels)
    )
    assert datamodule.info.labels == tuple(np.argsort(-np.array(counts), kind="stable"))
    assert datamodule.check_files() == []
    images, targets = next(iter(datamodule.train_dataloader()))
    assert images.shape == (4, 3, 16, 16)
    assert np.bincount(datamodule.splits.test.labels).tolist() == [2] * 6
    assert all(0 <= target < 6 for target in targets)


@pytest.mark.parametrize(
    ("name", "names"),
    [
        ("imagenet_lt", ("n01440764", "n01441735")),
        ("places_lt", ("airfield", "apartment_building/outdoor", "cabin/outdoor", "canyon")),
        ("inat18", ("0", "1", "2", "3", "4", "5")),
    ],
)
def test_classes_are_named_by_their_folders(name, names, root):
    MINIATURES[name](root)
    info = opened(name, root, class_order="label").info
    assert info.class_names[: len(names)] == names
    assert info.labels == (0, 1, 2, 3, 4, 5)
    by_count = opened(name, root).info
    assert [info.class_names[label] for label in by_count.labels] == list(by_count.class_names)


def test_train_and_test_images_are_those_of_their_class(root):
    make_imagenet_lt(root)
    splits = opened("imagenet_lt", root, val_fraction=0.3).splits
    for source in (splits.train, splits.val, splits.test):
        path = path_of(source)
        assert len(source) > 0
        assert all(splits.info.class_names[label] in path(i).split("/") for i, label in enumerate(source.labels))


def test_inat_opens_from_the_competitions_json(root):
    make_inat18(root, lists=False)
    datamodule = opened("inat18", root, verify=False)
    assert datamodule.check_files() == []
    assert datamodule.info.class_names == tuple(f"Genus species{label}" for label in datamodule.info.labels)
    assert datamodule.info.counts == tuple(sorted(counts_of(6, 8, 2), reverse=True))


def test_lists_and_json_are_the_same_data_set(root, tmp_path):
    make_inat18(root)
    make_inat18(tmp_path / "json", lists=False)
    one, other = (opened("inat18", place) for place in (root, tmp_path / "json"))
    assert (one.info.counts, one.info.labels) == (other.info.counts, other.info.labels)
    assert one.splits.test.labels.tolist() == other.splits.test.labels.tolist()


def test_lists_may_lie_elsewhere_or_a_folder_below(root, tmp_path):
    make_imagenet_lt(root)
    (root / "ImageNet_LT").mkdir()
    for name in ("ImageNet_LT_train.txt", "ImageNet_LT_test.txt"):
        (root / name).rename(root / "ImageNet_LT" / name)
    assert opened("imagenet_lt", root).check_files() == []
    lists = {f"{split}_list": tmp_path / f"{split}.txt" for split in ("train", "test")}
    for split in ("train", "test"):
        (root / "ImageNet_LT" / f"ImageNet_LT_{split}.txt").rename(lists[f"{split}_list"])
    assert opened("imagenet_lt", root, **lists).check_files() == []
    assert opened("lists", root, **lists).info.labels == opened("imagenet_lt", root, **lists).info.labels


def test_a_list_that_is_not_there_is_named(root):
    make_imagenet_lt(root)
    (root / "ImageNet_LT_test.txt").unlink()
    with pytest.raises(DataError, match=r"holds no ImageNet_LT_test\.txt; put the list there, or .* data\.test_list="):
        opened("imagenet_lt", root).setup()
    with pytest.raises(DataError, match=r"holds no iNaturalist18_train\.txt or train2018\.json; .* data\.train_list="):
        opened("inat18", root).setup()
    with pytest.raises(DataError, match=r"nowhere is not a folder; .* of the images and ImageNet_LT_train\.txt"):
        opened("imagenet_lt", root / "nowhere").setup()
    with pytest.raises(ConfigError, match=r"data\.name=lists has no list of its own; type data\.train_list=FILE"):
        opened("lists", root).setup()
    with pytest.raises(DataError, match=r"The list .*none\.txt cannot be read"):
        opened("imagenet_lt", root, test_list=root / "none.txt").setup()


def write(root, train, test="x/9.jpg 0\n"):
    root.mkdir(exist_ok=True)
    for name, content in (("train.txt", train), ("test.txt", test)):
        (root / name).write_text(content)
    return opened("lists", root, train_list=root / "train.txt", test_list=root / "test.txt")


def test_a_gap_among_the_labels(root):
    with pytest.raises(DataError, match=r"train\.txt lists no image of the label 1, though its labels go up to 3; num"):
        write(root, "a/1.jpg 0\nb/2.jpg 3\n").setup()
    with pytest.raises(DataError, match=r"lists no image of the label 0, though its labels go up to 999999999"):
        write(root, "a/1.jpg 999999999\n").setup()


def test_a_label_of_the_test_list_that_training_lacks(root):
    with pytest.raises(
        DataError, match=r"test\.txt gives 'x/8\.jpg' the label 2, which the training list lacks: .* 0 to 1"
    ):
        write(root, "a/1.jpg 0\nb/2.jpg 1\n", "x/9.jpg 0\nx/8.jpg 2\n").setup()


def test_a_class_may_be_absent_from_the_test_list(root):
    assert write(root, "a/1.jpg 0\nb/2.jpg 1\nb/3.jpg 1\n").splits.test.labels.tolist() == [1]


def test_missing_images_are_told_all_at_once(root):
    make_imagenet_lt(root, classes=8, largest=8, smallest=4)
    gone = sorted(root.glob("train/*/*.JPEG"))[::3] + sorted(root.glob("val/*/*.JPEG"))[:2]
    for file in gone:
        file.unlink()
    datamodule = opened("imagenet_lt", root, verify=False)
    with pytest.raises(
        DataError, match=rf"^{len(gone)} of the \d+ listed images are missing \(.*, \.\.\.\); "
    ) as caught:
        datamodule.check_files()
    named = str(caught.value).partition("(")[2].partition(")")[0].split(", ")
    assert len(named) == 11
    assert set(named[:10]) <= set(map(str, gone))
    assert sorted(find_missing(datamodule.splits.train)) == sorted(
        Lacking(str(f), False) for f in gone if "train" in str(f)
    )


def test_one_missing_image_is_told_as_one(root):
    make_imagenet_lt(root)
    next(root.glob("train/*/*.JPEG")).unlink()
    with pytest.raises(DataError, match=r"^1 of the \d+ listed images is missing \(.*\); put it there, or take it off"):
        opened("imagenet_lt", root).check_files()


@pytest.fixture
def lock(monkeypatch):
    """Has the system refuse some files; their modes would not do so to its administrator."""

    def lock(*files):
        locked, access = {str(file) for file in files}, os.access
        monkeypatch.setattr(
            "deitlt.data.file_checks.os.access", lambda file, mode: str(file) not in locked and access(file, mode)
        )

    return lock


def test_images_that_may_not_be_read_are_told_with_the_missing_ones(root, lock):
    make_imagenet_lt(root)
    first, second = sorted(root.glob("train/*/*.JPEG"))[:2]
    lock(first)
    with pytest.raises(DataError, match=r"^1 of the .* is not readable by you \(.*give yourself permission"):
        opened("imagenet_lt", root, verify=False).check_files()
    second.unlink()
    with pytest.raises(DataError, match=r"^2 of the .* images are missing or not readable by you") as caught:
        opened("imagenet_lt", root, verify=False).check_files()
    assert f"{first} (no permission)" in str(caught.value)
    assert f"{second} (no permission)" not in str(caught.value)


def test_a_folder_that_may_not_be_entered_is_no_other_layout(root, monkeypatch):
    make_imagenet_lt(root)

    look = os.stat

    def refuse(file, **options):
        if str(file).startswith(f"{root}/train/"):
            raise PermissionError(file)
        return look(file, **options)

    monkeypatch.setattr("deitlt.data.file_checks.os.stat", refuse)
    with pytest.raises(DataError, match=r"^\d\d of .* are not readable by you \(.*/train/"):
        opened("imagenet_lt", root, verify=False).check_files()


def test_images_that_are_not_used_may_be_missing(root):
    make_imagenet_lt(root)
    used = opened("imagenet_lt", root, max_count=2)
    kept = {path_of(used.splits.train)(i) for i in range(len(used.splits.train))}
    for file in root.glob("train/*/*.JPEG"):
        if str(file) not in kept:
            file.unlink()
    assert used.check_files() == []


def test_an_image_folder_of_another_layout(root, tmp_path):
    make_imagenet_lt(root)
    (root / "train").rename(root / "training")
    message = r"None of \d+ listed .* such as train/n0\d+/\S+\.JPEG in data\.root=.*, which holds .*training/"
    with pytest.raises(DataError, match=message):
        opened("imagenet_lt", root).check_files()
    lists = {f"{split}_list": root / f"ImageNet_LT_{split}.txt" for split in ("train", "test")}
    with pytest.raises(DataError, match=r"data\.root=.*nowhere is not a folder; type data\.root=FOLDER"):
        opened("imagenet_lt", tmp_path / "nowhere", **lists).check_files()
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty, which holds nothing; type data\.root=FOLDER .* that holds train/"):
        opened("imagenet_lt", tmp_path / "empty", **lists).check_files()


def test_validation_images_of_another_layout(root):
    make_imagenet_lt(root)
    for file in list(root.glob("val/*/*.JPEG")):  # ImageNet's own archive has them all in one folder
        file.rename(root / "val" / file.name)
    message = (
        r"None of 12 listed images is there: .* such as val/n0\d+/ILSVRC2012_val_\d+\.JPEG in data\.root=.*, "
        r"where val/ has no (n0\d+)/ and holds ILSVRC2012_val_.*, \.\.\.; put the images where .*, such as in val/\1/\."
    )
    with pytest.raises(DataError, match=r"where val/n0\d+/ has no ILSVRC\w+\.JPEG and holds nothing; put the images"):
        opened("imagenet_lt", root).check_files()
    for folder in root.glob("val/n*"):
        folder.rmdir()
    with pytest.raises(DataError, match=message) as caught:
        opened("imagenet_lt", root).check_files()
    assert "type data.root" not in str(caught.value)


def test_images_whose_names_end_otherwise(root):
    make_imagenet_lt(root)
    for file in list(root.glob("val/*/*.JPEG")):
        file.rename(file.with_suffix(".jpg"))
    with pytest.raises(DataError, match=r"where val/n0\d+/ has no (\w+)\.JPEG and holds .*\1\.jpg"):
        opened("imagenet_lt", root).check_files()


def test_a_list_that_was_written_on_windows(root):
    datamodule = write(root, "train\\a\\1.jpg 0\ntrain\\b\\2.jpg 1\n")
    with pytest.raises(DataError, match=r"files such as train\\a\\1\.jpg; write / for \\ in the list's paths\."):
        datamodule.check_files()


def test_paths_that_lie_elsewhere(root, tmp_path):
    datamodule = write(root, f"{tmp_path}/gone/1.jpg 0\n{tmp_path}/gone/2.jpg 1\n")
    with pytest.raises(DataError, match=r"gone/1\.jpg do not lie in data\.root=.*data; mend the paths in the list"):
        datamodule.check_files()


def test_a_test_list_of_the_training_images_is_refused(root):
    with pytest.raises(DataError, match=r"train\.txt and the test list .*test\.txt name the same .* data\.test_list="):
        write(root, "a/1.jpg 0\nb/2.jpg 1\n", "a/1.jpg 0\n\nb/2.jpg 1").setup()
    assert len(write(root, "a/1.jpg 0\nb/2.jpg 1\n", "a/1.jpg 0\nb/3.jpg 1\n").splits.test) == 2


def test_broken_images_of_a_list_are_found_where_that_is_asked_for(root):
    make_imagenet_lt(root)
    broken = sorted(root.glob("train/*/*.JPEG"))[0]
    broken.write_bytes(b"no image")
    assert opened("imagenet_lt", root, verify=False).check_files() == []
    assert opened("imagenet_lt", root, on_broken="skip").check_files() == [str(broken)]
    left_out = opened("imagenet_lt", root, exclude=[str(broken)])
    assert sum(left_out.info.counts) == sum(counts_of(6, 8, 2)) - 1
    assert left_out.info.labels == opened("imagenet_lt", root).info.labels


def test_a_json_of_another_year_is_refused_whatever_its_name(root):
    make_inat18(root, lists=False)
    content = json.loads((root / "train2018.json").read_text())
    content["info"]["year"] = 2019
    (root / "train2018.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"competition of 2019, as its info says, and inat18 is that of 2018"):
        opened("inat18", root).setup()


def test_workers_read_what_one_process_reads(root):
    make_inat18(root)
    alone, shared = (opened("inat18", root, num_workers=workers) for workers in (0, 2))
    for one, other in zip(alone.test_dataloader(), shared.test_dataloader(), strict=True):
        assert (one[0] == other[0]).all()
        assert one[1].tolist() == other[1].tolist()
