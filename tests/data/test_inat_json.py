import json

import pytest
from tests.data.miniatures import inat_json

from deitlt.data.file_index import FileIndex
from deitlt.data.inat_json import parse_inat_json
from deitlt.data.large import open_list
from deitlt.errors import DataError

ROWS = [("train_val2018/Aves/1/a.jpg", 1), ("train_val2018/Fungi/0/b.jpg", 0), ("train_val2018/Aves/1/c.jpg", 1)]


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
    index = FileIndex(parse(annotated))
    assert [(index.path(i), int(label)) for i, label in enumerate(index.table.labels)] == ROWS
    assert index.table.names == ("Genus species0", "Genus species1")


def test_it_is_cached_like_a_list(annotated, tmp_path, monkeypatch):
    file = tmp_path / "train2018.json"
    file.write_text(json.dumps(annotated))
    open_list(file)
    monkeypatch.setattr("deitlt.data.inat_json.json.loads", None)
    assert open_list(file).table.names == ("Genus species0", "Genus species1")


def test_names_that_are_not_unique_name_nothing(annotated, parse):
    annotated["categories"][1]["name"] = "Genus species0"
    assert parse(annotated).names == ()


@pytest.mark.parametrize(
    "info",
    [{"year": 2019}, {"year": "2017"}, {"description": "iNat2021"}, {"year": 2019, "description": "2018"}],
)
def test_another_year_is_named(annotated, parse, info):
    annotated["info"] = info
    with pytest.raises(DataError, match=r"train2018\.json is of the iNaturalist competition of 20(17|19|21), .* 2018;"):
        parse(annotated)


@pytest.mark.parametrize("info", [None, {}, {"year": 2018, "description": "2017 to 2018"}, {"description": "2018"}])
def test_its_own_year_or_none_is_right(annotated, parse, info):
    annotated["info"] = info
    assert len(parse(annotated).labels) == 3


def without(key):
    return lambda content: content.pop(key)


def changed(key, place, **entry):
    return lambda content: content[key][place].update(entry)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("images"), "has no list 'images' of entries; name train2018.json"),
        (without("annotations"), "has no list 'annotations'"),
        (without("categories"), "has no list 'categories'"),
        (lambda content: content["images"].clear(), "lists no image; name the whole file"),
        (lambda content: content["annotations"].pop(), r"an image without file_name or annotation.* \(100\)"),
        (lambda content: content["images"][0].pop("file_name"), r"\('file_name'\)"),
        (lambda content: content["images"].append("x.jpg"), "has no list 'images' of entries"),
        (changed("annotations", 1, image_id=100), r"gives the image '\S+/a\.jpg' more than one annotation; leave"),
        (changed("images", 0, file_name=7), "an image without file_name"),
        (changed("images", 0, file_name=""), "an image with an empty file_name, number 0"),
        (changed("images", 1, file_name=ROWS[0][0]), r"lists 'train_val2018/Aves/1/a\.jpg' twice; remove one"),
        (changed("annotations", 0, category_id=2), r"c\.jpg' a category_id that is none of its 2 categories"),
        (changed("annotations", 0, category_id=-1), "a category_id that is none of its 2"),
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


@pytest.mark.parametrize("content", [b"", b"a.jpg 0\n", b"\xff\xfe", b"[" * 100_000])
def test_what_is_no_json_is_refused(parse, content):
    with pytest.raises(DataError, match="is no JSON file"):
        parse(content)


def test_json_of_something_else_is_refused(parse):
    with pytest.raises(DataError, match="has no images and annotations"):
        parse(b"[1, 2]")
