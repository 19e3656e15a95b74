"""The large data sets that are published as lists, on miniatures of their true layout: only sizes change."""

import csv
import json
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

sys.path.insert(0, str(Path(__file__).parents[1] / "data"))
from miniatures import make_imagenet_lt, make_inat18, make_places_lt

from deitlt.checkpoints import read_spec
from deitlt.cli import main

MAKERS = {"imagenet_lt": make_imagenet_lt, "inat18": make_inat18}
SIZES = (
    *("data.num_workers=0", "trainer=cpu", "teacher.epochs=2", "teacher.images_per_update=5", "teacher.batch_size=5"),
    *("teacher.image_size=32", "teacher.model.name=resnet10t", "teacher.schedule.warmup_epochs=1"),
    *("student.epochs=3", "student.images_per_update=8", "student.batch_size=8", "student.image_size=32"),
    *("student.schedule.warmup_epochs=1", "student.drw.start_epoch=2", "data/sampler=repeated_full"),
    *("student.model.width=16", "student.model.depth=1", "student.model.heads=2"),
)
LDAM = ("teacher.drw.start_epoch=1",)
PACO = ("teacher.model.queue_size=15", "teacher.model.dim=8")
RECIPES = [
    pytest.param("imagenet_lt", LDAM, id="imagenet_lt", marks=pytest.mark.slow),
    pytest.param("imagenet_lt_paco", PACO, id="imagenet_lt_paco", marks=pytest.mark.slow),
    pytest.param("inat18", LDAM, id="inat18", marks=pytest.mark.slow),
    pytest.param("inat18_paco", PACO, id="inat18_paco"),
]


def miniature(recipe, folder, **options):
    name = recipe.removesuffix("_paco")
    words = MAKERS[name](folder, **options)
    return [word for word in words if not word.startswith(("data=", "data.num_workers"))]


@pytest.mark.parametrize(("recipe", "sizes"), RECIPES)
def test_a_recipe_trains_teacher_and_student_from_its_own_file(recipe, sizes, tmp_path):
    run = tmp_path / "run"
    words = [*miniature(recipe, tmp_path / "images"), *SIZES, *sizes, f"paths.output_dir={run}"]
    assert main(["train", f"experiment={recipe}", *words]) == 0
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["counts"] == sorted(metrics["counts"], reverse=True)
    assert set(metrics["student"]) == {"cls", "dist", "avg", "mean_prob"}
    assert 0 <= metrics["teacher"]["all"] <= 100
    teacher, student = (read_spec(run / stage / "last.ckpt") for stage in ("teacher", "student"))
    assert teacher.target.endswith("create_paco_teacher" if recipe.endswith("_paco") else "create_teacher")
    assert sorted(student.labels) == list(range(6))
    assert student.labels != sorted(student.labels)  # the lists' labels are not in the order of sizes
    assert student.labels == teacher.labels


def test_what_the_competitions_json_names_is_what_predict_says(tmp_path):
    run, images = tmp_path / "run", tmp_path / "images"
    words = [*miniature("inat18", images, lists=False), *SIZES, "stages=[student]", "student/distillation=none"]
    assert main(["train", "experiment=inat18", *words, "student.epochs=1", "student.drw=null",
                 "student.schedule.warmup_epochs=0", f"paths.output_dir={run}"]) == 0  # fmt: skip
    folder = next((images / "train_val2018" / "Plantae").iterdir())
    assert main(["predict", f"checkpoint={run}", f"images={folder}", f"output={tmp_path / 'said.csv'}"]) == 0
    with (tmp_path / "said.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["class"] for row in rows} <= {f"Genus species{c}" for c in range(6)}


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


def test_a_run_chooses_by_the_published_held_out_images(tmp_path, on, complain):
    words = on(make_imagenet_lt(tmp_path / "data", classes=3))
    listed = (tmp_path / "data" / "ImageNet_LT_train.txt").read_text().splitlines()
    largest = max("012", key=lambda label: sum(row.endswith(label) for row in listed))
    held_out = [row for row in listed if row.endswith(largest)][:2]
    kept = [row for row in listed if row not in held_out]
    (tmp_path / "data" / "ImageNet_LT_train.txt").write_text("\n".join(kept))
    (tmp_path / "val.txt").write_text("\n".join(held_out))
    words += ["data.val_list=val.txt", "protocol=val"]
    both = complain("train", *words, "data.val_fraction=0.1")
    assert "data.val_list=val.txt and data.val_fraction=0.1 both say which images are held out; type" in both
    assert main(["train", *words, "paths.output_dir=run"]) == 0
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert (metrics["protocol"], sum(metrics["counts"])) == ("val", len(kept))
    assert "student" in metrics["val"]


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
