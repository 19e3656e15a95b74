from pathlib import Path

import pytest

from deitlt.reports.matching import benchmark_of, changes_that_count, published_rows
from deitlt.reports.published import PUBLISHED
from deitlt.reports.summary import Run

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
    ],
)
def test_what_leaves_the_numbers_comparable_is_no_change_that_counts(change):
    changed = run("cifar10_lt_if100", changes=[change])
    assert changes_that_count(changed) == ()
    assert published_rows(changed) == LDAM
