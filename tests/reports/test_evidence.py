import json

import pytest

from deitlt.errors import ConfigError
from deitlt.reports.evidence import dig, read_evidence
from deitlt.reports.runs import read_runs


def test_a_runs_folder_is_read(make_run):
    run = make_run(analyses={"teacher": {"kind": "teacher"}})
    assert run.curves["teacher"]["train/lr"] == [(1.0, 0.1), (2.0, 0.1), (3.0, 0.01)]
    assert run.curves["student"]["test/cls/all"] == [(3.0, 73.8)]  # after three epochs, and no fourth
    assert run.recalls["AVG"] == [98.0, 98.0, 85.0, 90.0, None]
    assert run.analyses == {"teacher": {"kind": "teacher"}}
    assert dig(run.stages, "student", "recipe", "drw", "start_epoch") == 2
    assert dig(run.config, "recipe", "nothing", "there") is None


def test_the_last_analysis_while_training_stands_in(make_run, student_analysis):
    run = make_run(history=[student_analysis(10), student_analysis(2)])
    assert [analysis["epoch"] for analysis in run.history["student"]] == [2, 10]
    assert run.analyses["student"]["epoch"] == 10


def test_metrics_alone_are_enough(tmp_path, metrics):
    (tmp_path / "metrics.json").write_text(json.dumps(metrics))
    (run,) = read_runs([tmp_path])
    evidence = read_evidence(run, "digits")
    assert (evidence.config, evidence.curves, evidence.recalls, evidence.analyses) == ({}, {}, {}, {})


def test_a_given_teachers_recipe_is_found_beside_its_checkpoint(make_run, tmp_path):
    make_run("first", sam=False)
    folder = make_run("second").run.folder
    (folder / "teacher" / "stage.yaml").unlink()
    for given in ("first/teacher/last.ckpt", "first/teacher", "first"):
        config = {"teacher": {"checkpoint": str(tmp_path / given)}}
        (folder / "config.yaml").write_text(json.dumps(config))
        evidence = read_evidence(read_runs([folder])[0], "digits")
        assert dig(evidence.stages, "teacher", "recipe", "sam", "enabled") is False


@pytest.mark.parametrize(
    ("file", "said"), [("student/analysis.json", "not readable JSON"), ("config.yaml", "not readable YAML")]
)
def test_a_broken_file_is_named(make_run, file, said):
    run = make_run().run
    (run.folder / file).write_text("{[")
    with pytest.raises(ConfigError, match=said) as error:
        read_evidence(run, "digits")
    assert file in str(error.value)


def test_each_part_of_an_analysis_is_the_last_of_its_kind(make_run, student_analysis):
    before = {"epoch": 0, "agreement": {"clean": {"all": 90.0}}}
    after = {part: found for part, found in student_analysis(4).items() if part != "agreement"}
    run = make_run(history=[before, after], analyses={"student": {"epoch": 4, "calibration": {}}})
    assert run.analyses["student"]["agreement"] == before["agreement"]
    assert run.analyses["student"]["rank"] == after["rank"]
    assert run.analyses["student"]["calibration"] == {}
    assert run.analyses["student"]["epoch"] == 4


def test_each_part_keeps_the_images_that_it_was_measured_on(make_run, student_analysis):
    while_training = student_analysis(4) | {"images": 256, "split": "train"}
    analysed = {"epoch": 4, "images": 10000, "split": "test", "rank": {"width": 64}, "agreement": {}}
    run = make_run(history=[while_training], analyses={"student": analysed})
    assert run.samples["student"]["rank"] == ("test", 10000)
    assert run.samples["student"]["diversity"] == ("train", 256)
    assert not {"agreement", "calibrations", "kind"} & set(run.samples["student"])
    assert run.samples["teacher"] == {}
