import json
from dataclasses import replace

import pytest

from deitlt.errors import ConfigError
from deitlt.reports.run_data import Sample, dig, matched_runs, read_run_data, samples_of, unlike
from deitlt.reports.runs import read_runs


def test_a_runs_folder_is_read(make_run):
    run = make_run(analyses={"teacher": {"kind": "teacher"}})
    assert run.curves["teacher"]["train/lr"] == [(1.0, 0.1), (2.0, 0.1), (3.0, 0.01)]
    assert run.curves["student"]["test/cls/all"] == [(3.0, 73.8)]  # after three epochs, and no fourth
    assert run.recalls["AVG"] == [98.0, 98.0, 85.0, 90.0, None]
    assert run.analyses == {"teacher": {"kind": "teacher"}}
    assert dig(run.stages, "student", "recipe", "drw", "start_epoch") == 2
    assert dig(run.config, "recipe", "nothing", "there") is None


def test_metrics_alone_are_enough(tmp_path, metrics):
    (tmp_path / "metrics.json").write_text(json.dumps(metrics))
    (run,) = read_runs([tmp_path])
    data = read_run_data(run, "digits")
    assert (data.config, data.curves, data.recalls, data.analyses) == ({}, {}, {}, {})


def test_a_given_teachers_recipe_is_found_beside_its_checkpoint(make_run, tmp_path):
    make_run("first", sam=False)
    folder = make_run("second").run.folder
    (folder / "teacher" / "stage.yaml").unlink()
    for given in ("first/teacher/last.ckpt", "first/teacher", "first"):
        config = {"teacher": {"checkpoint": str(tmp_path / given)}}
        (folder / "config.yaml").write_text(json.dumps(config))
        data = read_run_data(read_runs([folder])[0], "digits")
        assert dig(data.stages, "teacher", "recipe", "sam", "enabled") is False


@pytest.mark.parametrize(
    ("file", "said"), [("student/analysis.json", "not readable JSON"), ("config.yaml", "not readable YAML")]
)
def test_a_broken_file_is_named(make_run, file, said):
    run = make_run().run
    (run.folder / file).write_text("{[")
    with pytest.raises(ConfigError, match=said) as error:
        read_run_data(run, "digits")
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


TEST, TRAIN = Sample("test", 10000), Sample("train", 256)


@pytest.mark.parametrize(
    ("sample", "words"),
    [
        (TEST, "10,000 test images"),
        (Sample("val", 1), "1 validation image"),
        (Sample("train", None), "training images"),
        (Sample(None, 20), "20 images"),
        (Sample(None, None), "its images"),
    ],
)
def test_images_in_words(sample, words):
    assert str(sample) == words


def test_sharpness_counts_its_own_images():
    analysis = {"split": "test", "images": 10000, "rank": {}, "agreement": {}, "sharpness": {"all": {"images": 200}}}
    assert samples_of(analysis) == {"rank": TEST, "sharpness": ("train", 200)}
    assert samples_of({"sharpness": {"tail": {"images": 3}}}) == {}


def test_different_images_are_told():
    assert unlike({"a": [TEST, TEST], "b": [TEST], "c": []}) == ""
    assert unlike({"a": [TEST], "b": [TRAIN], "c": [TEST]}) == (
        "Not measured on the same images: b on 256 training images; the others on 10,000 test images."
    )
    assert unlike({"a": [TEST, TRAIN]}).endswith("a on 10,000 test images; a on 256 training images.")


@pytest.fixture
def named(make_run):
    """Makes a run of a name, its student's recipe changed."""

    def make(name, **changes):
        run = replace(make_run(name), name=name)
        run.stages["student"]["recipe"].update(changes)
        return run

    return make


def test_runs_of_one_recipe_but_for_what_it_is_about_stand_beside_each_other(named):
    ours = [named("a"), named("a2", epochs=9)]
    theirs = [named("b", drw=None), named("b2", epochs=9, sam={"enabled": False})]
    sides = matched_runs(ours, theirs, ["student.sam."])
    assert [[run.name for run in side] for side in sides[:2]] == [["a2"], ["b2"]]
    assert sides.note == "Compared: a2 beside b2."


def test_of_equally_near_recipes_it_is_that_of_the_most_runs(named):
    ours = [named("a")]
    theirs = [named("b", epochs=9), named("c", epochs=8), named("d", epochs=8, batch_size=3)]
    sides = matched_runs(ours, theirs, [])
    assert [run.name for run in sides.theirs] == ["c", "d"]  # how a batch is shared among devices changes no recipe
    assert sides.note == "Compared: a beside c, d; they differ in student.epochs, too."


def test_many_keys_are_counted_and_a_null_node_stands_for_its_keys(named):
    other = named("b", drw=None, w=1, x=1, y=1, z=1)
    assert matched_runs([named("a")], [other], []).note == (
        "The runs compared differ in student.drw, student.w, student.x and 2 keys more, too."
    )


def test_a_recipe_that_nobody_wrote_down_differs_in_nothing_known(named):
    unknown = replace(named("b"), stages={})
    assert matched_runs([named("a")], [unknown], []).note == ""
    assert matched_runs([named("c")], [], []) == ([], [], "")


def _teacher(epoch, components):
    return {"epoch": epoch, "split": "train", "images": 256, "rank": {"features": {"components": components}}}


def test_a_teachers_rank_is_that_of_training_else_of_the_finished_teacher(make_run):
    run = make_run("a", analyses={"teacher": _teacher(9, 30)})
    assert run.teacher_rank_by_epoch("components") == [(9.0, 30.0)]
    assert run.teacher_rank_by_epoch("effective") == []
    (run.run.folder / "teacher" / "analysis" / "epoch_0004.json").write_text(json.dumps(_teacher(4, 20)))
    run = read_run_data(run.run, "digits")
    assert run.teacher_rank_by_epoch("components") == [(4.0, 20.0)]
    assert run.samples_by_epoch("teacher", "rank") == [("train", 256)]
    assert run.samples_by_epoch("student", "rank") == []
