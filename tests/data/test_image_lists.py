import pytest

from deitlt.data.datasets import DataRequest
from deitlt.data.folder import read_folder, read_image_lists
from deitlt.errors import DataError

TRAIN = "path,label\ntrain/cat/1.jpg,cat\ntrain/dog/1.jpg,dog\n"
TEST = "path,label\ntest/dog/9.png,dog\n"


def read(folder, train=TRAIN, test=TEST, root=None):
    (folder / "a.csv").write_text(train)
    (folder / "b.csv").write_text(test)
    return read_image_lists(folder / "a.csv", folder / "b.csv", root or folder)


def test_names_are_sorted_and_kept(image_folder):
    splits = read(image_folder, "label,more,path\ndog,x,train/dog/1.jpg\n\ncat,y,train/cat/1.jpg\n")
    assert splits.class_names == ("cat", "dog")
    assert splits.train.labels.tolist() == [1, 0]
    assert splits.test.labels.tolist() == [1]
    assert splits.train[0].size == (6, 5)


def test_integers_are_class_ids(image_folder):
    rows = [f"train/cat/1.jpg,{i}" for i in (10, *range(10))]
    splits = read(image_folder, "\n".join(["path,label", *rows]), "path,label\ntest/dog/9.png,02\n")
    assert splits.class_names == tuple(str(i) for i in range(11))
    assert splits.train.labels.tolist() == [10, *range(10)]
    assert splits.test.labels.tolist() == [2]


def test_byte_order_mark_and_quotes_of_spreadsheets(image_folder):
    splits = read(image_folder, '\ufeffpath,label\r\n"train/cat/1.jpg","cat, tame"\r\ntrain/dog/1.jpg,dog\r\n')
    assert splits.class_names == ("cat, tame", "dog")


def test_paths_start_at_the_list_or_the_root_or_are_absolute(image_folder):
    lists = image_folder / "train"
    train = f"path,label\ncat/1.jpg,cat\ntest/dog/9.png,dog\n{image_folder}/train/dog/1.jpg,dog\n"
    splits = read(lists, train, root=image_folder)
    assert len(splits.train) == 3


def test_reached_through_the_data_set_folder(image_folder):
    read(image_folder)
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
        read(image_folder, train)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("train", "label"),
    [(TRAIN, "cow"), (TRAIN, "0"), (TRAIN, ""), (TRAIN.replace("cat\n", "0\n").replace("dog\n", "1\n"), "2")],
)
def test_label_of_the_test_list_that_is_no_class(image_folder, train, label):
    with pytest.raises(DataError, match=rf"b\.csv, line 3: the label '{label}' is none of .* 2 classes"):
        read(
            image_folder,
            train,
            f"path,label\ntest/dog/9.png,{'1' if '1.jpg,1' in train else 'dog'}\nx.jpg,{label}\n",
        )


def test_missing_and_unreadable_lists(image_folder):
    read(image_folder)
    with pytest.raises(DataError, match=r"none\.csv cannot be read"):
        read_image_lists(image_folder / "none.csv", image_folder / "b.csv", image_folder)
    (image_folder / "c.csv").write_bytes(b"path,label\n\xff\xfe,\x00\n")
    with pytest.raises(DataError, match=r"c\.csv cannot be read as a CSV file in UTF-8"):
        read_image_lists(image_folder / "a.csv", image_folder / "c.csv", image_folder)
