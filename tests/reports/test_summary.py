import copy
import json

import pytest

from deitlt.errors import ConfigError
from deitlt.reports import read_runs, summary_markdown, summary_rows


def write(folder, metrics, **changes):
    folder.mkdir(parents=True)
    (folder / "metrics.json").write_text(json.dumps({**copy.deepcopy(metrics), **changes}))
    return folder


def three_seeds(tmp_path, metrics):
    for seed, accuracy in enumerate((84.0, 86.0, 88.0)):
        metrics["student"]["dist"]["all"] = accuracy
        write(tmp_path / "digits" / str(seed), metrics, seed=seed)
    return read_runs([tmp_path])


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


def test_rows_have_the_mean_and_the_sample_standard_deviation(tmp_path, metrics):
    rows = {(row.part, row.token): row for row in summary_rows(three_seeds(tmp_path, metrics))}
    dist = rows["student", "dist"]
    assert dist.seeds == 3
    assert dist.scores["all"].mean == pytest.approx(86.0)
    assert dist.scores["all"].std == pytest.approx(2.0)
    assert dist.scores["tail"] == pytest.approx((69.3, 0.0))
    assert ("teacher", "") in rows


def test_markdown_gives_mean_spread_and_seeds(tmp_path, metrics):
    lines = summary_markdown(three_seeds(tmp_path, metrics)).splitlines()
    assert lines[0] == "| run | all | head | mid | tail | seeds |"
    assert lines[1] == "| --- | ---: | ---: | ---: | ---: | ---: |"
    row = "| digits (changed recipe 1), student DIST | 86.0 ± 2.0 | 94.0 ± 0.0 | 90.0 ± 0.0 | 69.3 ± 0.0 | 3 |"
    assert row in lines
    assert lines[-3].endswith("Protocol: last epoch.")
    assert lines[-1] == "- changed recipe 1: student.epochs is 150, the recipe says 1200"


def test_one_seed_has_no_spread_and_an_absent_group_a_dash(tmp_path, metrics):
    del metrics["teacher"]["mid"]
    text = summary_markdown(read_runs([write(tmp_path / "a", metrics)]))
    assert "| digits (changed recipe 1), teacher | 95.0 | 99.0 | - | 90.0 | 1 |" in text


def test_the_same_seed_twice_is_not_averaged(tmp_path, metrics):
    write(tmp_path / "x" / "0", metrics, seed=0)
    write(tmp_path / "y" / "0", metrics, seed=0)
    rows = summary_rows(read_runs([tmp_path]))
    assert {row.experiment for row in rows} == {"digits (changed recipe 1, x/0)", "digits (changed recipe 1, y/0)"}
    assert {row.seeds for row in rows} == {1}


def test_runs_with_other_settings_are_not_seeds_of_one_experiment(tmp_path, metrics):
    write(tmp_path / "0", metrics, seed=0, recipe_differences=[])
    write(tmp_path / "1", metrics, seed=1, recipe_differences=["student.epochs is 3, the recipe has 150"])
    rows = summary_rows(read_runs([tmp_path]))
    assert {row.experiment for row in rows} == {"digits", "digits (changed recipe 1)"}
    assert {row.seeds for row in rows} == {1}


def test_folders_of_one_name_are_not_one_experiment(tmp_path, metrics):
    write(tmp_path / "x" / "0", metrics, experiment=None, seed=0)
    write(tmp_path / "y" / "0", metrics, experiment=None, seed=1)
    assert {row.seeds for row in summary_rows(read_runs([tmp_path]))} == {1}


def test_protocols_are_not_mixed_and_all_named(tmp_path, metrics):
    write(tmp_path / "0", metrics, seed=0)
    write(tmp_path / "1", metrics, seed=1, protocol="paper")
    text = summary_markdown(read_runs([tmp_path]))
    assert "| digits (last, changed recipe 1), teacher | 95.0 |" in text
    assert "| digits (paper, changed recipe 1), teacher | 95.0 |" in text
    assert "last epoch; best epoch on the TEST set" in text


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"class_names": ["a", "b", "c", "d", "f"]}, "classes"),
        ({"counts": [1200, 600, 300, 120, 10]}, "training images per class"),
        ({"counts": [5, 4], "class_names": ["a", "b"]}, "classes"),
    ],
)
def test_different_data_do_not_share_a_table(tmp_path, metrics, changes, what):
    write(tmp_path / "0", metrics)
    write(tmp_path / "1", metrics, **changes)
    runs = read_runs([tmp_path])
    with pytest.raises(ConfigError, match=rf"differ in their {what}, so one table cannot compare them"):
        summary_rows(runs)
    text = summary_markdown(runs)
    assert text.count("\n| --- |") == text.count("## ") == 2
    assert text.startswith("## data without a name, as it is: 5 classes, 1,303 images\n\n| run |")
