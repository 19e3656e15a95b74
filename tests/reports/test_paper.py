import copy
import json

import pytest

from deitlt.errors import ConfigError
from deitlt.reports import paper_markdown, paper_rows, read_runs


@pytest.fixture
def finished(tmp_path, metrics):
    """Writes a run of CIFAR-10-LT at imbalance 100 as its recipe has it, and whatever is changed."""
    recipe = {"experiment": "cifar10_lt_if100", "method": "deit_lt", "data": "cifar10", "imbalance_factor": 0.01}

    def write(folder, avg=81.0, **changes):
        content = copy.deepcopy(metrics) | recipe | {"recipe_differences": []} | changes
        if "student" in content and "avg" in content["student"]:
            content["student"]["avg"]["all"] = avg
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "metrics.json").write_text(json.dumps(content))

    return write


def table(text, title):
    """Row and score -> the other cells, of one data set's table."""
    part = text.split(f"## {title}\n")[1].split("\n#")[0]
    lines = [line.strip("|").split("|") for line in part.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line] for line in lines]
    assert cells[0] == ["", "score", "published", "ours", "difference", "seeds", "protocol"]
    return {(row[0], row[1]): row[2:] for row in cells[2:]}


def report(tmp_path):
    return paper_markdown(read_runs([tmp_path]))


def test_seeds_are_averaged_and_compared(finished, tmp_path):
    for seed, avg in enumerate((84.0, 85.0, 86.6)):
        finished(str(seed), avg, seed=seed)
    found = table(report(tmp_path), "CIFAR-10-LT, imbalance 100")
    assert list(found) == [("teacher LDAM+DRW+SAM", "all"), ("ViT", "all"), ("DeiT-LT, LDAM teacher", "all")]
    assert found["DeiT-LT, LDAM teacher", "all"] == ["84.8", "85.2 ± 1.3", "+0.4", "3", "last"]
    assert found["teacher LDAM+DRW+SAM", "all"] == ["81.9", "95.0 ± 0.0", "+13.1", "3", "last"]
    assert found["ViT", "all"] == ["62.6", "74.4 ± 0.0", "+11.8", "3", "last"]


def test_data_sets_come_together_in_the_papers_order(finished, tmp_path):
    finished("b", experiment="imagenet_lt", data="imagenet_lt", imbalance_factor=None)
    finished("a", experiment="digits", data="digits", imbalance_factor=0.05)
    finished("c", experiment="cifar10_lt_if50", imbalance_factor=0.02)
    finished("d")
    text = report(tmp_path)
    titles = [line.removeprefix("## ") for line in text.splitlines() if line.startswith("## ")]
    digits = "digits, imbalance 20: 5 classes, 1,303 images"
    assert titles == ["CIFAR-10-LT, imbalance 100", "CIFAR-10-LT, imbalance 50", "ImageNet-LT", digits]
    found = table(text, "ImageNet-LT")
    scores = [found["DeiT-LT, LDAM teacher", score][:3] for score in ("all", "head", "mid", "tail")]
    assert scores == [
        ["55.6", "81.0", "+25.4"],
        ["65.2", "98.0", "+32.8"],
        ["54.0", "88.0", "+34.0"],
        ["37.1", "48.9", "+11.8"],
    ]
    assert table(text, digits)["digits deit_lt, student AVG", "tail"][:3] == ["no published number", "48.9", "-"]


def test_a_changed_recipe_is_listed_and_compared_with_nothing(finished, tmp_path):
    finished("a", seed=0)
    finished("b", seed=1, recipe_differences=["student.epochs is 3, the recipe has 1200"])
    text = report(tmp_path)
    found = table(text, "CIFAR-10-LT, imbalance 100")
    assert found["DeiT-LT, LDAM teacher", "all"][3] == "1"
    assert found["cifar10_lt_if100 deit_lt, student AVG", "all"] == ["changed recipe 1", "81.0", "-", "1", "last"]
    assert "- changed recipe 1: student.epochs is 3, the recipe has 1200" in text


def test_a_changed_recipe_of_other_data_stands_by_its_name(finished, tmp_path):
    changed = ["student.epochs is 3, the recipe has 150"]
    finished("a", experiment="digits", data="digits", imbalance_factor=0.05, recipe_differences=changed)
    text = report(tmp_path)
    found = table(text, "digits, imbalance 20: 5 classes, 1,303 images")
    row = found["digits deit_lt, student AVG, changed recipe 1", "all"]
    assert row == ["no published number", "81.0", "-", "1", "last"]
    assert "- changed recipe 1: student.epochs is 3, the recipe has 150" in text


def test_a_vit_is_measured_by_its_only_token(finished, tmp_path, metrics):
    finished("a", experiment="cifar10_lt_if100_vit", student={"cls": metrics["student"]["cls"]}, teacher=None)
    rows = {row.row: row for row in paper_rows(read_runs([tmp_path])) if row.published}
    assert rows["ViT"].scores["all"].mean == pytest.approx(73.8)
    assert rows["ViT"].published == {"all": 62.6}


def test_moving_averages_and_other_tokens_are_left_out(finished, tmp_path):
    finished("a")
    rows = paper_rows(read_runs([tmp_path]))
    assert [row.scores["all"].mean for row in rows] == [95.04, 74.4, 81.0]


def test_the_same_seed_twice_is_not_averaged(finished, tmp_path):
    finished("x/0", 84.0)
    finished("y/0", 86.0)
    found = table(report(tmp_path), "CIFAR-10-LT, imbalance 100")
    assert found["DeiT-LT, LDAM teacher (x/0)", "all"][1:4] == ["84.0", "-0.8", "1"]
    assert found["DeiT-LT, LDAM teacher (y/0)", "all"][1:4] == ["86.0", "+1.2", "1"]


def test_runs_of_no_experiment_are_not_averaged(finished, tmp_path):
    finished("x/0", experiment=None, method=None, seed=0)
    finished("y/0", experiment=None, method=None, seed=1)
    assert {row.seeds for row in paper_rows(read_runs([tmp_path]))} == {1}


def test_data_of_one_name_with_other_classes_are_other_data(finished, tmp_path):
    finished("0", experiment="mine", data="folder", seed=0)
    finished("1", experiment="mine", data="folder", seed=1, class_names=["v", "w", "x", "y", "z"])
    assert {row.seeds for row in paper_rows(read_runs([tmp_path]))} == {1}


def test_protocols_are_kept_apart_and_told_in_words(finished, tmp_path):
    finished("a", 84.0, seed=0)
    finished("b", 86.0, seed=1, protocol="paper")
    finished("c", 85.0, seed=2, protocol="val")
    text = report(tmp_path)
    rows = [row for row in paper_rows(read_runs([tmp_path])) if row.row == "DeiT-LT, LDAM teacher"]
    assert {(row.protocol, row.scores["all"].mean) for row in rows} == {("last", 84.0), ("paper", 86.0), ("val", 85.0)}
    assert "last = last epoch; val = best epoch on the validation split; paper = best epoch on the TEST set" in text


def test_published_cells_without_a_run_are_named(finished, tmp_path):
    finished("a")
    lines = report(tmp_path).split("without a run here:")[1].splitlines()
    assert "- CIFAR-10-LT, imbalance 100: teacher PaCo+SAM; DeiT; DeiT-III; DeiT-LT, PaCo teacher" in lines
    whole = "teacher LDAM+DRW+SAM; teacher PaCo+SAM; ViT; DeiT-III; DeiT-LT, LDAM teacher; DeiT-LT, PaCo teacher"
    assert f"- ImageNet-LT: {whole}" in lines


@pytest.mark.parametrize("content", [{}, {"student_ema": {"cls": {"all": 1.0}}}, {"teacher": None}])
def test_a_run_that_measured_nothing_is_named(content, tmp_path):
    (tmp_path / "metrics.json").write_text(json.dumps(content))
    with pytest.raises(ConfigError, match="no accuracy of a teacher or student"):
        report(tmp_path)


@pytest.mark.parametrize("content", [{"student": 3}, {"student": {"cls": 7}}, {"teacher": {"all": "good"}}])
def test_accuracies_that_are_none_are_named(content, tmp_path):
    (tmp_path / "metrics.json").write_text(json.dumps(content))
    with pytest.raises(ConfigError, match=r"metrics\.json holds no run's accuracies"):
        read_runs([tmp_path])
