"""Runs on data sets that are published as lists; what their readers refuse is told in a sentence."""

import json

import pytest
from omegaconf import OmegaConf
from tests.data.miniatures import make_imagenet_lt, make_inat18, make_places_lt

from deitlt.cli import main


@pytest.fixture
def on(tiny_vit):
    """The overrides of a tiny run on other data than digits'."""

    def choose(overrides):
        kept = (word for word in tiny_vit if not word.startswith("data."))
        return [*kept, *overrides, "data.imbalance_factor=null", "data.max_count=null", "student.image_size=16"]

    return choose


def test_a_run_on_lists_tells_sorted_classes_by_their_names(tmp_path, on):
    overrides = make_places_lt(tmp_path / "places", classes=4)
    assert main(["train", *on(overrides), "paths.output_dir=run"]) == 0
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["counts"] == sorted(metrics["counts"], reverse=True)
    assert sorted(metrics["class_names"]) == ["airfield", "apartment_building/outdoor", "cabin/outdoor", "canyon"]
    assert 0 <= metrics["student"]["cls"]["all"] <= 100


def test_files_are_remembered_from_the_root_of_the_disk(tmp_path, on):
    make_imagenet_lt(tmp_path / "data", classes=3)
    (tmp_path / "order.txt").write_text("2\n0\n1\n")
    lists = [f"data.{split}_list=data/ImageNet_LT_{split}.txt" for split in ("train", "test")]
    words = ["data=imagenet_lt", "data.root=data", "data.group_cuts=[1,2]", *lists, "data.num_workers=0"]
    assert main(["train", *on(words), "data.class_order=order.txt", "paths.output_dir=run"]) == 0
    data = OmegaConf.load(tmp_path / "run" / "config.yaml").data
    assert data.class_order == str(tmp_path / "order.txt")
    assert data.train_list == str(tmp_path / "data" / "ImageNet_LT_train.txt")
    names = json.loads((tmp_path / "run" / "metrics.json").read_text())["class_names"]
    assert names == [f"n{1440764 + 971 * c:08d}" for c in (2, 0, 1)]


def test_missing_images_end_a_run_before_it_begins(tmp_path, on, complain):
    words = on(make_inat18(tmp_path / "inat"))
    gone = sorted((tmp_path / "inat").glob("train_val2018/*/*/*.jpg"))[:3]
    for file in gone:
        file.unlink()
    answer = complain("train", *words)
    assert "3 of the" in answer
    assert all(str(file) in answer for file in gone)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["data.root=elsewhere"], "elsewhere is not a folder; type data.root=FOLDER"),
        (
            ["data.train_list=none.txt"],
            "none.txt cannot be read (No such file or directory); type data.train_list=",
        ),
        (["data.class_order=size"], "size is none of label, count, authors, nor a file that can be read"),
        (["data.on_broken=skip"], "type data.verify=true with it"),
    ],
)
def test_what_is_wrong_with_a_data_set_is_answered_in_a_sentence(tmp_path, on, complain, words, sentence):
    overrides = make_imagenet_lt(tmp_path / "data", classes=3)
    assert sentence in complain("train", *on([*overrides, *words]))
