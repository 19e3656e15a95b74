import json
import os
import pickle
import tracemalloc

import numpy as np
import pytest
from tests.data.miniatures import counts_of, inat_json, make_imagenet_lt, make_inat18, make_places_lt

from deitlt.data import LongTailDataModule
from deitlt.data.file_checks import Lacking, find_missing
from deitlt.data.images import FileImages, path_of
from deitlt.data.lists import folder_names, parse_inat_json, parse_text, read_list, short_names
from deitlt.errors import ConfigError, DataError

MINIATURES = {"imagenet_lt": make_imagenet_lt, "places_lt": make_places_lt, "inat18": make_inat18}
ROWS = [("train_val2018/Aves/1/a.jpg", 1), ("train_val2018/Fungi/0/b.jpg", 0), ("train_val2018/Aves/1/c.jpg", 1)]


# Text files


def parsed(tmp_path, content):
    """The (path, label)s of a list and its classes' names."""
    listing = parse_text(tmp_path / "list.txt", content)
    return [(os.fsdecode(p), int(c)) for p, c in zip(listing.paths, listing.labels, strict=True)], listing.names


@pytest.mark.parametrize(
    "content",
    [
        b"a/1.jpg 0\r\nb/2.jpg 12\r\n",  # Windows's line ends read as others
        b"a/1.jpg 0\nb/2.jpg 12",
        b"\xef\xbb\xbfa/1.jpg 0\n\n  \nb/2.jpg\t12  \n\n",
        b"a/1.jpg   0\r\n\r\nb/2.jpg \t 012",
    ],
)
def test_line_ends_blanks_and_empty_lines_do_not_matter(tmp_path, content):
    assert parsed(tmp_path, content) == ([("a/1.jpg", 0), ("b/2.jpg", 12)], ())


def test_a_path_that_starts_here_is_that_without_it(tmp_path):
    rows, _ = parsed(tmp_path, b"./a/1.jpg 0\na/2.jpg 0\n././b/3.jpg 1\n.//c/4.jpg 1\n../d/5.jpg 1\n.e.jpg 1\n")
    assert [path for path, _ in rows] == ["a/1.jpg", "a/2.jpg", "b/3.jpg", ".//c/4.jpg", "../d/5.jpg", ".e.jpg"]
    assert parsed(tmp_path, b"./a/1.jpg 0\na/2.jpg 0\nb/1.jpg 1\n")[1] == ("a", "b")


def test_a_path_may_hold_spaces_any_script_and_what_is_no_unicode(tmp_path):
    rows, _ = parsed(tmp_path, "my cats/1 (2).jpg 0\nkäfer/猫.jpg 1\n".encode() + b"caf\xe9/1.jpg 0\n")
    assert [path for path, _ in rows[:2]] == ["my cats/1 (2).jpg", "käfer/猫.jpg"]
    assert rows[2][0].encode(errors="surrogateescape") == b"caf\xe9/1.jpg"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"list\.txt lists no image; give it a line 'path label'"),
        (b"a.jpg 0\nb.jpg -1\n", r"list\.txt, line 2: the label -1 is negative; number the classes from 0\."),
        (b"a.jpg 0\n\nb.jpg\n", r"line 3: 'b\.jpg' is no line 'path label'"),
        (b"a.jpg,0\n", r"line 1: 'a\.jpg,0' is no line"),
        (b"a.jpg 0\nb.jpg one\n", r"line 2: 'b\.jpg one' is no line"),
        (b"a.jpg 0\nb.jpg 9999999999\n", r"line 2: 'b\.jpg 9999999999' is no line"),
        (b"a.jpg 0\rb.jpg 1\n", r"line 1: 'a\.jpg 0\\rb\.jpg 1' is no line"),
        ("a.jpg 0\n".encode("utf-16"), r"line 1: .* is no line"),
        (b"path label\na.jpg 0\n", r"line 1: 'path label' is a header, and a list has none, .*; remove it\."),
        (b"path,label\na.jpg,0\n", r"line 1: 'path,label' is a header, .* such as 'train/cat/1\.jpg 0'; remove it"),
        (b"a.jpg 0\nb.jpg 1\n./a.jpg 0\n", r"lists 'a\.jpg' twice, in the lines 1 and 3"),
        (b"a.jpg 0\n\nb.jpg 1\na.jpg 1\n", r"lists 'a\.jpg' twice, in the lines 1 and 4; remove one"),
    ],
)
def test_what_is_no_list_is_refused_in_one_sentence(tmp_path, content, message):
    with pytest.raises(DataError, match=message) as caught:
        parse_text(tmp_path / "list.txt", content)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("paths", "labels", "names"),
    [
        ("t/cat/1 t/dog/1 t/cat/2", [1, 0, 1], ("dog", "cat")),
        ("t/cat/1 t/dog/1 t/cow/2", [1, 0, 1], ()),
        ("t/cat/1 t/cat/2", [0, 1], ()),
        ("cat t/dog/2", [0, 1], ()),
        ("/cat t/dog/2", [0, 1], ()),
    ],
)
def test_folders_name_classes_where_each_has_its_own(paths, labels, names):
    assert folder_names(paths.encode().split(), labels) == names
    assert folder_names([b"\xff/1", b"x/2"], [0, 1]) == ()


def test_names_are_as_short_as_they_can_be():
    folders = ["d/a/airfield", "d/c/cabin/outdoor", "d/h/hut/outdoor", "outdoor"]
    assert short_names(folders) == ("airfield", "cabin/outdoor", "hut/outdoor", "outdoor")
    assert short_names(["x/1", "y/1", "1"]) == ("x/1", "y/1", "1")


def test_a_long_list_is_held_in_little_memory_and_without_an_object_for_each_path(tmp_path):
    rows = [f"train/n{i % 1000:08d}/n{i % 1000:08d}_{i}.JPEG {i % 1000}\n" for i in range(100_000)]
    (tmp_path / "list.txt").write_text("".join(rows))
    tracemalloc.start()
    listing = read_list(tmp_path / "list.txt")
    images = FileImages(listing.paths, listing.labels, "root")
    del listing
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held / len(images) < 60  # bytes an image: 35 of its path, 16 of its border and label
    assert images.path(99_999) == "root/train/n00000999/n00000999_99999.JPEG"
    assert pickle.loads(pickle.dumps(images)).path(7) == images.path(7)


# The iNaturalist competition's JSON


@pytest.fixture
def annotated():
    return inat_json(ROWS, 2)


@pytest.fixture
def parse(tmp_path):
    def parse(content):
        text = content if isinstance(content, bytes) else json.dumps(content).encode()
        return parse_inat_json(tmp_path / "train2018.json", text)

    return parse


def test_images_labels_and_names(annotated, parse):
    listing = parse(annotated)
    assert [(path.decode(), int(label)) for path, label in zip(listing.paths, listing.labels, strict=True)] == ROWS
    assert listing.names == ("Genus species0", "Genus species1")
    annotated["categories"][1]["name"] = "Genus species0"
    assert parse(annotated).names == ()  # not unique


@pytest.mark.parametrize(
    "info",
    [{"year": 2019}, {"year": "2017"}, {"description": "iNat2021"}, {"year": 2019, "description": "2018"}],
)
def test_another_year_is_named(annotated, parse, info):
    annotated["info"] = info
    with pytest.raises(DataError, match=r"train2018\.json is of the iNaturalist competition of 20(17|19|21), .* 2018;"):
        parse(annotated)


def without(key):
    return lambda content: content.pop(key)


def changed(key, place, **entry):
    return lambda content: content[key][place].update(entry)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("images"), "has no list 'images' of entries; name train2018.json"),
        (without("annotations"), "has no list 'annotations'"),
        (lambda content: content["images"].clear(), "lists no image; name the whole file"),
        (lambda content: content["annotations"].pop(), r"an image without file_name or annotation.* \(100\)"),
        (lambda content: content["images"][0].pop("file_name"), r"\('file_name'\)"),
        (lambda content: content["images"].append("x.jpg"), "has no list 'images' of entries"),
        (changed("annotations", 1, image_id=100), r"gives the image '\S+/a\.jpg' more than one annotation; leave"),
        (changed("images", 0, file_name=""), "an image with an empty file_name, number 0"),
        (changed("images", 1, file_name=ROWS[0][0]), r"lists 'train_val2018/Aves/1/a\.jpg' twice; remove one"),
        (changed("annotations", 0, category_id=2), r"c\.jpg' a category_id that is none of its 2 categories"),
        (changed("annotations", 0, category_id=[1]), "a category_id that is none of its 2"),
        (changed("categories", 1, id=2), "has 2 categories, but none of the id 1; their ids must run from 0"),
        (changed("categories", 1, id=[]), "a category without name"),
    ],
)
def test_a_file_at_odds_with_itself_is_refused_in_one_sentence(annotated, parse, change, message):
    change(annotated)
    with pytest.raises(DataError, match=message) as caught:
        parse(annotated)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"a.jpg 0\n", b"\xff\xfe", b"[" * 100_000, b"[1, 2]"])
def test_what_is_no_json_of_the_competition_is_refused(parse, content):
    with pytest.raises(DataError, match=r"is no JSON file|has no images and annotations"):
        parse(content)


# Data sets


@pytest.fixture
def root(tmp_path):
    return tmp_path / "data"


def opened(name, root, **options):
    options = {"group_cuts": (1, 2), "image_size": 16, "batch_size": 4} | options
    return LongTailDataModule.from_keys(name=name, root=root, **options)


@pytest.mark.parametrize(
    ("name", "names"),
    [
        ("imagenet_lt", ("n01440764", "n01441735")),
        ("places_lt", ("airfield", "apartment_building/outdoor", "cabin/outdoor", "canyon")),
        ("inat18", ("0", "1", "2", "3", "4", "5")),
    ],
)
def test_a_miniature_is_opened_by_its_published_lists_and_its_folders_name_the_classes(name, names, root):
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
    (images, *_), targets = next(iter(datamodule.train_dataloader()))
    assert images.shape == (4, 3, 16, 16)
    assert np.bincount(datamodule.splits.test.labels).tolist() == [2] * 6
    plain = opened(name, root, class_order="label").info
    assert plain.class_names[: len(names)] == names
    assert plain.labels == (0, 1, 2, 3, 4, 5)
    assert [plain.class_names[label] for label in datamodule.info.labels] == list(datamodule.info.class_names)
    assert all(0 <= target < 6 for target in targets)


def test_inat_opens_from_the_competitions_json(root):
    make_inat18(root, lists=False)
    datamodule = opened("inat18", root, verify=False)
    assert datamodule.check_files() == []
    assert datamodule.info.class_names == tuple(f"Genus species{label}" for label in datamodule.info.labels)
    assert datamodule.info.counts == tuple(sorted(counts_of(6, 8, 2), reverse=True))


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


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        ("a/1.jpg 0\nb/2.jpg 3\n", "x/9.jpg 0\n", r"no image of the label 1, though its labels go up to 3; num"),
        ("a/1.jpg 999999999\n", "x/9.jpg 0\n", "no image of the label 0, though its labels go up to 999999999"),
        (
            *("a/1.jpg 0\nb/2.jpg 1\n", "x/9.jpg 0\nx/8.jpg 2\n"),
            r"test\.txt gives 'x/8\.jpg' the label 2, which the training list lacks: .* 0 to 1",
        ),
        (
            *("a/1.jpg 0\nb/2.jpg 1\n", "a/1.jpg 0\n\nb/2.jpg 1"),
            r"train\.txt and the test list .*test\.txt name the same .* data\.test_list=",
        ),
        (
            *("train\\a\\1.jpg 0\ntrain\\b\\2.jpg 1\n", "x/9.jpg 0\n"),
            r"files such as train\\a\\1\.jpg; write / for \\ in the list's paths\.",
        ),
        (
            *("/gone/1.jpg 0\n/gone/2.jpg 1\n", "x/9.jpg 0\n"),
            r"gone/1\.jpg do not lie in data\.root=.*data; mend the paths in the list",
        ),
    ],
)
def test_lists_that_do_not_fit_together_or_the_images_are_refused_in_one_sentence(root, train, test, message):
    with pytest.raises(DataError, match=message) as caught:
        write(root, train, test).check_files()
    assert "\n" not in str(caught.value)


def test_a_class_may_be_absent_from_the_test_list_and_an_image_may_be_in_both(root):
    splits = write(root, "a/1.jpg 0\nb/2.jpg 1\nb/3.jpg 1\n", "b/2.jpg 1\n").splits
    assert splits.test.labels.tolist() == [0]  # of b, the larger class


def hold_out(root, rows, **options):
    """Training data of two classes, the larger one first by count, beside a list of held-out images."""
    write(root, "a/1.jpg 0\nb/2.jpg 1\nb/3.jpg 1\n")
    (root / "val.txt").write_text(rows)
    lists = {f"{split}_list": root / f"{split}.txt" for split in ("train", "val", "test")}
    return opened("lists", root, **lists, **options)


def test_held_out_images_come_from_their_list_and_no_training_image_is_given_for_them(root):
    module = hold_out(root, "b/7.jpg 1\na/8.jpg 0\nc/9.jpg 1\n")
    assert module.info.counts == (2, 1)
    assert module.splits.val.labels.tolist() == [0, 1, 0]  # class ids by falling count, as in training
    assert [path_of(module.splits.val)(i) for i in range(3)] == [
        str(root / f) for f in ("b/7.jpg", "a/8.jpg", "c/9.jpg")
    ]
    assert len(find_missing(module.splits.val)) == 3
    assert module.watched == ("val",)
    left = hold_out(root, "b/7.jpg 1\na/8.jpg 0\n", exclude=[str(root / "b/7.jpg")]).splits.val
    assert left.labels.tolist() == [1]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            "b/7.jpg 1\nb/3.jpg 1\n",
            r"val\.txt holds out 'b/3\.jpg', on which .*train\.txt trains \(1 such .* data\.val_list=",
        ),
        ("b/7.jpg 2\n", r"val\.txt gives 'b/7\.jpg' the label 2, which the training list lacks"),
    ],
)
def test_held_out_images_that_cannot_be_those_are_refused_in_one_sentence(root, rows, message):
    with pytest.raises(DataError, match=message) as caught:
        hold_out(root, rows).setup()
    assert "\n" not in str(caught.value)


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


def test_broken_images_of_a_list_are_found_where_that_is_asked_for(root):
    make_imagenet_lt(root)
    broken = sorted(root.glob("train/*/*.JPEG"))[0]
    broken.write_bytes(b"no image")
    assert opened("imagenet_lt", root, verify=False).check_files() == []
    assert opened("imagenet_lt", root, on_broken="skip").check_files() == [str(broken)]
    left_out = opened("imagenet_lt", root, exclude=[str(broken)])
    assert sum(left_out.info.counts) == sum(counts_of(6, 8, 2)) - 1
    assert left_out.info.labels == opened("imagenet_lt", root).info.labels
