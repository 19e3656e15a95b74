import json

import pytest

from deitlt.errors import ConfigError
from deitlt.reports.runs import Run, accuracy_rows, by_data, data_title, read_runs


def write(folder, metrics, **changes):
    folder.mkdir(parents=True)
    (folder / "metrics.json").write_text(json.dumps({**metrics, **changes}))
    return folder


def test_runs_are_found_in_folders_and_below_each_once(tmp_path, metrics):
    one = write(tmp_path / "a", metrics, seed=3)
    write(tmp_path / "b" / "c", metrics, experiment=None, seed=None)
    runs = read_runs([tmp_path, one])
    assert [(run.experiment, run.seed) for run in runs] == [("digits", 3), ("c", None)]
    assert runs[0].folder == one.resolve()


def test_a_folder_without_a_run_is_named(tmp_path, metrics):
    write(tmp_path / "a", metrics)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"empty holds no finished run: there is no metrics\.json"):
        read_runs([tmp_path / "a", tmp_path / "empty"])


def test_a_broken_file_is_named(tmp_path):
    (tmp_path / "metrics.json").write_text("{")
    with pytest.raises(ConfigError, match=r"metrics\.json is not readable JSON"):
        read_runs([tmp_path])


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ([1, 2], "it is no mapping of names to values"),
        (3, "it is no mapping of names to values"),
        ({"accuracy": 0.93, "loss": 0.2}, "there is no accuracy of a teacher or student in it"),
        ({"student": {"cls": {"all": "high"}}}, "could not convert"),
        ({"student": {"cls": {"all": 93}}, "class_names": 3}, "class_names is no list of names"),
        ({"student": {"cls": {"all": 93}}, "counts": ["7"]}, "counts is no list of numbers"),
    ],
)
def test_what_no_run_wrote_is_named(tmp_path, content, why):
    (tmp_path / "metrics.json").write_text(json.dumps(content))
    with pytest.raises(ConfigError, match=rf"metrics\.json holds no run's accuracies \({why}"):
        read_runs([tmp_path])


def test_runs_of_one_data_set_stand_together(tmp_path, metrics):
    runs = [Run(tmp_path / str(i), "digits", i, dict(metrics)) for i in range(4)]
    runs[1].metrics["counts"] = [9, 9, 9, 9, 9]
    runs[3].metrics["counts"] = [1, 2, 3, 4, 5]
    found = by_data(runs)
    assert [len(together) for together in found.values()] == [2, 1, 1]
    assert next(iter(found)) == "data without a name, as it is: 5 classes, 1,303 images"


def test_equal_titles_of_different_data_are_numbered(tmp_path, metrics):
    runs = [Run(tmp_path / str(i), "digits", i, dict(metrics)) for i in range(3)]
    runs[1].metrics["class_names"] = list("vwxyz")
    runs[2].metrics["class_names"] = list("lmnop")
    title = data_title(metrics)
    assert list(by_data(runs)) == [title, f"{title} (2)", f"{title} (3)"]


def test_a_title_says_data_and_tail(metrics):
    assert data_title({**metrics, "data": "digits", "imbalance_factor": 0.05}).startswith("digits, imbalance 20: 5 cl")


def test_rows_stand_in_order_under_their_names(metrics):
    labels = [row.label for row in accuracy_rows(metrics)]
    assert labels == ["teacher", "student CLS", "student DIST", "student AVG", "student (EMA) CLS", "plain ViT"]


def test_a_baseline_with_two_tokens_names_them(metrics):
    metrics["baseline"]["dist"] = metrics["baseline"]["cls"]
    assert [row.label for row in accuracy_rows(metrics)][-2:] == ["plain ViT CLS", "plain ViT DIST"]


def test_parts_that_were_not_trained_have_no_row(metrics):
    del metrics["teacher"], metrics["student_ema"]
    metrics["baseline"] = None
    assert [row.part for row in accuracy_rows(metrics)] == ["student"] * 3
