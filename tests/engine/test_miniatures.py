"""The large data sets' own recipes, from lists to the table, on miniatures of their true layout: only sizes change."""

import csv
import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "data"))
from miniatures import make_imagenet_lt, make_inat18, make_places_lt

from deitlt.checkpoints import read_spec
from deitlt.cli import main

MAKERS = {"imagenet_lt": make_imagenet_lt, "inat18": make_inat18, "places_lt": make_places_lt}
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
    pytest.param("imagenet_lt", LDAM, id="imagenet_lt"),
    pytest.param("imagenet_lt_paco", PACO, id="imagenet_lt_paco", marks=pytest.mark.slow),
    pytest.param("inat18", LDAM, id="inat18", marks=pytest.mark.slow),
    pytest.param("inat18_paco", PACO, id="inat18_paco"),
    pytest.param("places_lt", LDAM, id="places_lt", marks=pytest.mark.slow),
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
