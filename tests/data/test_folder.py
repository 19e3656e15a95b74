import shutil

import pytest

from deitlt.data.datasets import DataRequest
from deitlt.data.folder import read_folder, read_image_lists
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


TRAIN = "path,label\ntrain/cat/1.jpg,cat\ntrain/dog/1.jpg,dog\n"
TEST = "path,label\ntest/dog/9.png,dog\n"


def read_csv(folder, train=TRAIN, test=TEST, root=None):
    (folder / "a.csv").write_text(train)
    (folder / "b.csv").write_text(test)
    return read_image_lists(folder / "a.csv", folder / "b.csv", root or folder)


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


def test_reached_through_the_data_set_folder(image_folder):
    read_csv(image_folder)
    lists = {"train_csv": image_folder / "a.csv", "test_csv": image_folder / "b.csv"}
    assert len(read_folder(DataRequest(image_folder, **lists)).train) == 2


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
