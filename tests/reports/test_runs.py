import json

import pytest

from deitlt.errors import ConfigError
from deitlt.reports.runs import Run, Sample, accuracy_rows, in_group_order, read_runs, sample_of


def write(folder, metrics, **changes):
    folder.mkdir(parents=True)
    (folder / "metrics.json").write_text(json.dumps({**metrics, **changes}))
    return folder


def read_again(run):
    return read_runs([run.folder])[0]


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


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("{", r"is not readable JSON"),
        ([1, 2], r"holds no run's accuracies \(it is no mapping of names to values"),
        ({"accuracy": 0.93, "loss": 0.2}, "there is no accuracy of a teacher or student in it"),
        ({"student": {"cls": {"all": "high"}}}, "could not convert"),
        ({"student": {"cls": {"all": 93}}, "class_names": 3}, "class_names is no list of names"),
        ({"student": {"cls": {"all": 93}}, "counts": ["7"]}, "counts is no list of numbers"),
    ],
)
def test_what_no_run_wrote_is_named(tmp_path, content, why):
    text = content if isinstance(content, str) else json.dumps(content)
    (tmp_path / "metrics.json").write_text(text)
    with pytest.raises(ConfigError, match=rf"metrics\.json .*{why}"):
        read_runs([tmp_path])


def test_rows_stand_in_order_under_their_names(metrics):
    labels = ["teacher", "student CLS", "student DIST", "student AVG", "student (EMA) CLS", "plain ViT"]
    assert [row.label for row in accuracy_rows(metrics)] == labels
    del metrics["teacher"], metrics["student_ema"]
    metrics["baseline"]["dist"] = metrics["baseline"]["cls"]  # with two tokens a baseline names them
    assert [row.label for row in accuracy_rows(metrics)] == [*labels[1:4], "plain ViT CLS", "plain ViT DIST"]
    assert in_group_order(["tail", "few", "all", "head", "tail"]) == ["all", "head", "tail", "few"]


def test_a_stage_of_ones_own_has_its_rows_behind_ours(metrics):
    metrics |= {
        "second": metrics["student"],
        "second_ema": metrics["student_ema"],
        "cost": {"teacher": {}, "second": {}},
    }
    labels = [row.label for row in accuracy_rows(metrics)]
    assert labels[-5:] == ["plain ViT", "second CLS", "second DIST", "second AVG", "second (EMA) CLS"]
    del metrics["cost"]["second"]  # nothing else says that this is a stage
    assert [row.label for row in accuracy_rows(metrics)] == labels[:-4]


def test_a_runs_folder_is_read(make_run):
    run = make_run(analyses={"teacher": {"kind": "teacher"}})
    assert run.curves["teacher"]["train/lr"] == [(1.0, 0.1), (2.0, 0.1), (3.0, 0.01)]
    assert run.curves["student"]["test/cls/all"] == [(3.0, 73.8)]  # after three epochs, and no fourth
    assert run.recalls["AVG"] == [98.0, 98.0, 85.0, 90.0, None]
    assert run.analyses == {"teacher": {"kind": "teacher"}}
    assert run.recipe("student")["drw"]["start_epoch"] == 2


def test_metrics_alone_are_enough(tmp_path, metrics):
    run = read_again(Run(write(tmp_path / "a", metrics), "", 0, {}))
    assert (run.config, run.recalls, run.analyses, run.recipe("student")) == ({}, {}, {}, {})
    assert not any(run.curves.values())


def test_a_given_teachers_recipe_is_found_beside_its_checkpoint(make_run, tmp_path):
    make_run("first", sam=False)
    run = make_run("second")
    (run.folder / "teacher" / "stage.yaml").unlink()
    for given in ("first/teacher/last.ckpt", "first/teacher", "first"):
        config = {"teacher": {"checkpoint": str(tmp_path / given)}}
        (run.folder / "config.yaml").write_text(json.dumps(config))
        assert read_again(run).recipe("teacher")["sam"]["enabled"] is False


@pytest.mark.parametrize(
    ("file", "asked", "said"),
    [("student/analysis.json", "analyses", "not readable JSON"), ("config.yaml", "config", "not readable YAML")],
)
def test_a_broken_file_is_named(make_run, file, asked, said):
    run = make_run()
    (run.folder / file).write_text("{[")
    with pytest.raises(ConfigError, match=rf"{file} is {said}"):
        getattr(read_again(run), asked)


def test_each_part_of_an_analysis_is_the_last_of_its_kind_and_keeps_its_images(make_run, student_analysis):
    before = {"epoch": 0, "agreement": {"clean": {"all": 90.0}}}
    later = {part: found for part, found in student_analysis(4).items() if part != "agreement"}
    analysed = {"epoch": 4, "images": 10000, "split": "test", "rank": {"width": 64}}
    history = [before, later | {"images": 256, "split": "train"}]
    run = make_run(history=history, analyses={"student": analysed})
    assert run.analyses["student"]["agreement"] == before["agreement"]
    assert run.analyses["student"]["diversity"] == later["diversity"]
    assert run.analyses["student"]["rank"] == {"width": 64}
    assert run.sample("student", "rank") == ("test", 10000)
    assert run.sample("student", "diversity") == ("train", 256)
    assert run.sample("student", "agreement") is run.sample("teacher", "rank") is None


@pytest.mark.parametrize(
    ("sample", "words"),
    [
        (Sample("test", 10000), "10,000 test images"),
        (Sample("val", 1), "1 validation image"),
        (Sample("train", None), "training images"),
        (Sample(None, 20), "20 images"),
        (Sample(None, None), "its images"),
    ],
)
def test_images_in_words(sample, words):
    assert str(sample) == words


def test_sharpness_counts_its_own_images():
    analysis = {"split": "test", "images": 10000, "sharpness": {"all": {"images": 200}}}
    assert sample_of(analysis, "sharpness") == ("train", 200)
    assert sample_of({"sharpness": {"tail": {"images": 3}}}, "sharpness") is None


def test_a_teachers_rank_is_that_of_training_else_of_the_finished_teacher(make_run):
    def teacher(epoch, components):
        return {"epoch": epoch, "split": "train", "images": 256, "rank": {"features": {"components": components}}}

    run = make_run("a", analyses={"teacher": teacher(9, 30)})
    assert run.teacher_rank_by_epoch("components") == [(9.0, 30.0)]
    assert run.teacher_rank_by_epoch("effective") == []
    (run.folder / "teacher" / "analysis" / "epoch_0004.json").write_text(json.dumps(teacher(4, 20)))
    run = read_again(run)
    assert run.teacher_rank_by_epoch("components") == [(4.0, 20.0)]
    assert run.samples_by_epoch("teacher", "rank") == [("train", 256)]
    assert run.samples_by_epoch("student", "rank") == []
