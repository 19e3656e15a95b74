import copy
import json
from dataclasses import replace
from pathlib import Path

import pytest

from deitlt.reports.published import (
    PUBLISHED,
    ROWS,
    benchmark_of,
    changes_that_count,
    paper_markdown,
    paper_rows,
    published_rows,
)
from deitlt.reports.runs import Run


@pytest.mark.parametrize(
    ("title", "row", "numbers"),
    [
        ("CIFAR-10-LT, imbalance 100", "DeiT-LT, PaCo teacher", {"all": 87.5}),
        ("CIFAR-100-LT, imbalance 50", "DeiT", {"all": 39.1}),
        ("ImageNet-LT", "DeiT-LT, PaCo teacher", {"all": 59.1, "head": 66.6, "mid": 58.3, "tail": 40.0}),
        ("iNaturalist-2018", "teacher LDAM+DRW+SAM", {"all": 70.1, "head": 64.1, "mid": 70.5, "tail": 71.2}),
    ],
)
def test_the_published_numbers(title, row, numbers):
    (rows,) = (rows for benchmark, rows in PUBLISHED.items() if benchmark.title == title)
    assert rows[row] == numbers
    assert list(rows) == [name for name in ROWS if name in rows]
    assert ("DeiT" in rows) == title.startswith("CIFAR")


EXPERIMENTS = Path(__file__).parents[2] / "conf" / "experiment"
LDAM = {"teacher": "teacher LDAM+DRW+SAM", "student": "DeiT-LT, LDAM teacher", "baseline": "ViT"}
PACO = {"teacher": "teacher PaCo+SAM", "student": "DeiT-LT, PaCo teacher", "baseline": "ViT"}


def run(experiment, data="cifar10", factor=0.01, method="deit_lt", changes=()):
    metrics = {"experiment": experiment, "method": method, "data": data, "imbalance_factor": factor}
    return Run(Path("run"), experiment or "run", 0, metrics | {"recipe_differences": list(changes)})


# Experiment, data, factor, method -> the rows that its parts stand beside.
KNOWN = [
    ("cifar10_lt_if100", "cifar10", 0.01, "deit_lt", LDAM),
    ("cifar10_lt_if100", "cifar10", 0.01, None, LDAM),
    ("cifar10_lt_if50", "cifar10", 0.02, "deit_lt", LDAM),
    ("cifar100_lt_if50_paco", "cifar100", 0.02, "deit_lt", PACO),
    ("cifar100_lt_if100", "cifar100", 0.01, "vit", {"student": "ViT"}),
    ("cifar100_lt_if100_vit", "cifar100", 0.01, "deit_lt", {"student": "ViT"}),
    ("cifar10_lt_if100", "cifar10", 0.01, "deit", {"student": "DeiT"}),
    ("cifar10_lt_if100_deit", "cifar10", 0.01, "deit_lt", {"student": "DeiT"}),
    ("cifar10_lt_if100_deit3", "cifar10", 0.01, "deit_lt", {"student": "DeiT-III"}),
    ("cifar10_lt_if100", "cifar10", 0.01, "deit3", {"student": "DeiT-III"}),
    ("imagenet_lt", "imagenet_lt", None, "deit_lt", LDAM),
    ("imagenet_lt_paco", "imagenet_lt", None, "deit_lt", PACO),
    ("imagenet_lt", "imagenet_lt", None, "vit", {"student": "ViT"}),
    ("inat18", "inat18", None, "deit_lt", LDAM),
    ("inat18_deit3", "inat18", None, "deit_lt", {"student": "DeiT-III"}),
    ("teacher/cifar10_ldam_if100", "cifar10", 0.01, "deit_lt", LDAM),
    ("teacher/inat18_paco", "inat18", None, "deit_lt", PACO),
]


@pytest.mark.parametrize(("experiment", "data", "factor", "method", "rows"), KNOWN)
def test_an_experiment_stands_beside_its_rows(experiment, data, factor, method, rows):
    assert published_rows(run(experiment, data, factor, method)) == rows


UNKNOWN = [
    run("digits", "digits", 0.05),
    run(None),
    run("cifar10_cpu"),
    run("teacher/cifar10_ce_if100"),
    run("cifar10_lt_if100", method="no_teacher"),
    run("cifar10_lt_if100", method="vit_drw"),
    run("cifar10_lt_if100_paco", method="deit"),  # DeiT's teacher is no PaCo teacher
    run("imagenet_lt", "imagenet_lt", None, "deit"),  # the paper has no DeiT there
    run("cifar10_lt_if100", factor=0.1),
    run("cifar10_lt_if100", factor=None),
    run("cifar10_lt_if100", data="cifar100"),
    run("cifar10_lt_if100", changes=["student.epochs is 3, the recipe has 1200"]),
]


@pytest.mark.parametrize("found", UNKNOWN, ids=lambda found: f"{found.experiment} {found.metrics['method']}")
def test_other_runs_stand_beside_nothing(found):
    assert published_rows(found) == {}


def test_the_other_published_tail_is_no_changed_recipe():
    change = "data.imbalance_factor is 0.02, the recipe has 0.01"
    found = run("teacher/cifar10_paco_if100", factor=0.02, changes=[change])
    assert benchmark_of(found.metrics).title == "CIFAR-10-LT, imbalance 50"
    assert published_rows(found) == PACO
    assert published_rows(run("cifar10_lt_if100", factor=0.02, changes=[change, "student.drw is None"])) == {}


def test_every_published_cell_of_a_student_has_a_recipe():
    reached = set()
    for file in EXPERIMENTS.glob("*.yaml"):
        for benchmark in PUBLISHED:
            factor = None if benchmark.imbalance is None else 1 / benchmark.imbalance
            tail = "" if benchmark.imbalance is None else f"_lt_if{benchmark.imbalance}"
            if not (file.stem + "_").startswith(f"{benchmark.data}{tail}_"):
                continue
            for method in ("deit_lt", "vit", "deit"):
                rows = published_rows(run(file.stem, benchmark.data, factor, method))
                reached |= {(benchmark.title, row) for row in rows.values()}
    assert reached == {(benchmark.title, row) for benchmark, rows in PUBLISHED.items() for row in rows}


@pytest.mark.parametrize(
    "change",
    [
        "protocol is paper, the recipe has last",
        "student.batch_size is 64, the recipe has 128",
        "teacher.checkpoint is theirs.pth, the recipe has None",
        "data.train_list is a.txt, the recipe has None",
        "teacher: images a device at once, all that BatchNorm and SAM can see, is 64, the recipe has 128",
    ],
)
def test_what_leaves_the_numbers_comparable_is_no_change_that_counts(change):
    changed = run("cifar10_lt_if100", changes=[change])
    assert changes_that_count(changed) == ()
    assert published_rows(changed) == LDAM


TEN = {"experiment": "cifar10_lt_if100", "method": "deit_lt", "data": "cifar10", "imbalance_factor": 0.01}


@pytest.fixture
def finished(metrics):
    """Makes a run of CIFAR-10-LT at imbalance 100 as its recipe has it, and whatever is changed."""

    def make(folder, avg=81.0, **changes):
        content = copy.deepcopy(metrics) | TEN | {"recipe_differences": []} | changes
        if "avg" in content["student"]:
            content["student"]["avg"]["all"] = avg
        name = " ".join(content[key] for key in ("experiment", "method") if content[key])
        return Run(Path("/runs", folder), name or folder, content["seed"], content)

    return make


def table(runs, title="CIFAR-10-LT, imbalance 100"):
    """Row and score -> the other cells, of one data set's table."""
    part = paper_markdown(runs).split(f"## {title}\n")[1].split("\n#")[0]
    lines = [line.strip("|").split("|") for line in part.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line] for line in lines]
    assert cells[0] == ["", "score", "published", "ours", "difference", "seeds", "protocol"]
    return {(row[0], row[1]): row[2:] for row in cells[2:]}


def test_seeds_are_averaged_and_compared(finished):
    found = table([finished(str(seed), avg, seed=seed) for seed, avg in enumerate((84.0, 85.0, 86.6))])
    assert found == {
        ("teacher LDAM+DRW+SAM", "all"): ["81.9", "95.0 ± 0.0", "+13.1", "3", "last"],
        ("ViT", "all"): ["62.6", "74.4 ± 0.0", "+11.8", "3", "last"],
        ("DeiT-LT, LDAM teacher", "all"): ["84.8", "85.2 ± 1.3", "+0.4", "3", "last"],
    }


def test_only_runs_of_one_recipe_are_averaged_as_seeds(finished, tmp_path):
    def trained(seed, avg, experiment, method, teacher):
        found = replace(
            finished(str(seed), avg, seed=seed, experiment=experiment, method=method), folder=tmp_path / experiment
        )
        for stage, recipe in (
            ("teacher", {"model": {"name": teacher}}),
            ("student", {"distillation": {"kind": "hard"}}),
        ):
            (found.folder / stage).mkdir(parents=True, exist_ok=True)
            (found.folder / stage / "stage.yaml").write_text(json.dumps({"recipe": recipe}))
        return found

    row, method = "cifar10_lt_if100_deit", "cifar10_lt_if100"
    of_row = [trained(seed, avg, row, "deit_lt", "regnety_160") for seed, avg in ((0, 70.0), (1, 72.0))]
    others = [trained(2, 80.0, method, "deit", "cifar_resnet32")]
    found = table([*of_row, *others])
    assert found[f"DeiT ({row} deit_lt)", "all"][1:] == ["71.0 ± 1.4", "+0.8", "2", "last"]
    assert found[f"DeiT ({method} deit)", "all"][1:] == ["80.0", "+9.8", "1", "last"]
    assert table(of_row)["DeiT", "all"][1] == "71.0 ± 1.4"


def test_data_sets_come_together_in_the_papers_order(finished):
    runs = [
        finished("b", experiment="imagenet_lt", data="imagenet_lt", imbalance_factor=None),
        finished("a", experiment="digits", data="digits", imbalance_factor=0.05),
        finished("c", experiment="cifar10_lt_if50", imbalance_factor=0.02),
        finished("d"),
    ]
    titles = [line.removeprefix("## ") for line in paper_markdown(runs).splitlines() if line.startswith("## ")]
    digits = "digits, imbalance 20: 5 classes, 1,303 images"
    assert titles == ["CIFAR-10-LT, imbalance 100", "CIFAR-10-LT, imbalance 50", "ImageNet-LT", digits]
    found = table(runs, "ImageNet-LT")
    scores = [found["DeiT-LT, LDAM teacher", score][:3] for score in ("all", "head", "mid", "tail")]
    assert scores == [
        ["55.6", "81.0", "+25.4"],
        ["65.2", "98.0", "+32.8"],
        ["54.0", "88.0", "+34.0"],
        ["37.1", "48.9", "+11.8"],
    ]
    assert table(runs, digits)["digits deit_lt, student AVG", "tail"][:3] == ["no published number", "48.9", "-"]


def test_a_changed_recipe_is_listed_and_compared_with_nothing(finished):
    change = "student.epochs is 3, the recipe has 1200"
    runs = [finished("a", seed=0), finished("b", seed=1, recipe_differences=[change])]
    found = table(runs)
    assert found["DeiT-LT, LDAM teacher", "all"][3] == "1"
    assert found["cifar10_lt_if100 deit_lt, student AVG", "all"] == ["changed recipe 1", "81.0", "-", "1", "last"]
    assert f"- changed recipe 1: {change}" in paper_markdown(runs)


def test_a_vit_is_measured_by_its_only_token(finished, metrics):
    run = finished("a", experiment="cifar10_lt_if100_vit", student={"cls": metrics["student"]["cls"]}, teacher=None)
    assert table([run])["ViT", "all"][:2] == ["62.6", "73.8"]


def test_the_same_seed_twice_is_not_averaged(finished):
    found = table([finished("x/0", 84.0), finished("y/0", 86.0)])
    assert found["DeiT-LT, LDAM teacher (x/0)", "all"][1:4] == ["84.0", "-0.8", "1"]
    assert found["DeiT-LT, LDAM teacher (y/0)", "all"][1:4] == ["86.0", "+1.2", "1"]


def test_runs_of_no_experiment_and_data_with_other_classes_are_not_averaged(finished):
    unnamed = [finished(str(seed), experiment=None, method=None, seed=seed) for seed in (0, 1)]
    mine = {"experiment": "mine", "data": "folder"}
    others = [finished("a", seed=0, **mine), finished("b", seed=1, class_names=["v", "w", "x", "y", "z"], **mine)]
    assert {len(accuracies) for accuracies in paper_rows([*unnamed, *others]).values()} == {1}


def test_protocols_are_kept_apart_and_told_in_words(finished):
    runs = [finished(f"{i}", 84.0 + i, seed=i, protocol=name) for i, name in enumerate(("last", "val", "paper"))]
    rows = paper_rows(runs).items()
    found = {(row.protocol, seed["all"]) for row, seeds in rows for seed in seeds if row.name.startswith("DeiT-LT")}
    assert found == {("last", 84.0), ("val", 85.0), ("paper", 86.0)}
    said = "last = last epoch; val = best epoch on the validation split; paper = best epoch on the TEST set"
    assert said in paper_markdown(runs)


def test_published_cells_without_a_run_are_named(finished):
    lines = paper_markdown([finished("a")]).split("without a run here:")[1].splitlines()
    assert "- CIFAR-10-LT, imbalance 100: teacher PaCo+SAM; DeiT; DeiT-III; DeiT-LT, PaCo teacher" in lines
    whole = "teacher LDAM+DRW+SAM; teacher PaCo+SAM; ViT; DeiT-III; DeiT-LT, LDAM teacher; DeiT-LT, PaCo teacher"
    assert f"- ImageNet-LT: {whole}" in lines
