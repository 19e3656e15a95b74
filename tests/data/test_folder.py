import shutil

import pytest

from deitlt.data.datasets import DataRequest
from deitlt.data.folder import read_folder
from deitlt.errors import ConfigError, DataError


def read(root, **lists):
    return read_folder(DataRequest(root, **lists))


def test_reads_nested_files_of_all_kinds(image_folder):
    splits = read(image_folder)
    assert splits.class_names == ("cat", "dog")
    assert splits.train.labels.tolist() == [0, 0, 0, 1, 1]
    assert [splits.train[i].size for i in range(5)] == [(6, 5)] * 5
    assert splits.test.labels.tolist() == [0, 1]


def test_order_of_files_is_sorted(image_folder):
    source = read(image_folder).train
    names = [source.path(i).split("train/")[1] for i in range(5)]
    assert names == ["cat/1.jpg", "cat/2.JPEG", "cat/deep/er/3.png", "dog/1.jpg", "dog/2.webp"]


def test_hidden_and_other_files_are_passed_over(image_folder, write_image):
    write_image(image_folder / "train/cat/.ipynb_checkpoints/1.jpg")
    (image_folder / "train/cat/._1.jpg").write_bytes(b"mac")
    (image_folder / "train/cat/notes.txt").write_text("x")
    (image_folder / "train/.DS_Store").write_text("x")
    assert len(read(image_folder).train) == 5


def test_linked_class_folder_is_read(image_folder):
    (image_folder / "train/wolf").symlink_to(image_folder / "train/dog")
    assert read(image_folder).class_names == ("cat", "dog", "wolf")


def test_val_serves_where_test_is_absent(image_folder):
    (image_folder / "test").rename(image_folder / "val")
    assert len(read(image_folder).test) == 2


def test_test_comes_before_val(image_folder):
    shutil.copytree(image_folder / "test" / "cat", image_folder / "val" / "cat")
    assert len(read(image_folder).test) == 2


def test_class_may_be_missing_in_the_test_set(image_folder):
    shutil.rmtree(image_folder / "test/cat")
    splits = read(image_folder)
    assert splits.class_names == ("cat", "dog")
    assert splits.test.labels.tolist() == [1]


def _remove(name):
    return lambda root: shutil.rmtree(root / name)


def _empty_class(root):
    (root / "train/emu").mkdir()


def _extra_test_class(root):
    shutil.copytree(root / "test/cat", root / "test/cow")


def _no_class(root):
    shutil.rmtree(root / "train")
    (root / "train").mkdir()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_remove("."), r"data\.root=.* is not a folder; type data\.root=FOLDER"),
        (_remove("train"), r"data\.root=.* has no folder train/"),
        (_remove("test"), r"has neither a folder test/ nor val/"),
        (_empty_class, r"class folder .*train/emu holds no image"),
        (_extra_test_class, r"has the class 'cow', which .*train lacks"),
        (_no_class, r"train holds no class folder and so no image"),
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
