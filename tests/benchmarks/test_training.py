import json
import platform

import pytest

from deitlt.benchmarks.machine import machine
from deitlt.benchmarks.operations import SIZES
from deitlt.benchmarks.recipe_time import duration
from deitlt.cli import main

SHORT = ("repeats=2", "training.batches=3", "output=found.json")


@pytest.fixture(scope="module")
def measured(tiny, tmp_path_factory):
    """What `deitlt benchmark part=training compare=timm` wrote, and the names of the files that it left."""
    folder = tmp_path_factory.mktemp("measured")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setitem(SIZES, "cpu", (64, 128))
        assert main(["benchmark", "part=training", *tiny, *SHORT, "compare=timm"]) == 0
    return json.loads((folder / "found.json").read_text()), sorted(path.name for path in folder.rglob("*"))


def test_nothing_but_the_output_is_left(measured):
    assert measured[1] == ["found.json"]


@pytest.mark.parametrize("name", ["teacher", "sam_teacher", "student"])
def test_each_figure_of_a_stage_is_there(measured, name):
    stage = measured[0]["stages"][name]
    works = {"whole", "bare", "input", "loader", "hook", "step"}
    works |= {"teacher"} if name == "student" else set()
    works |= set() if name == "sam_teacher" else {"timm_whole", "timm_input", "timm_step"}
    assert set(stage["seconds"]) == set(stage["images_per_second"]) == set(stage["milliseconds_per_batch"]) == works
    assert all(len(taken) == 2 and min(taken) > 0 for taken in stage["seconds"].values())
    assert (stage["round_images"], stage["round_batches"]) == (48, 3)
    assert stage["images_per_second"]["step"] == pytest.approx(48 / (sum(stage["seconds"]["step"]) / 2))
    assert stage["milliseconds_per_batch"]["whole"] == pytest.approx(1000 * 16 / stage["images_per_second"]["whole"])
    assert stage["lightning_over_bare"] > 0
    assert 0 < stage["waiting_share"] + stage["waiting_share_between_epochs"] < 1
    assert stage["memory"]["mib"] is None or stage["memory"]["mib"] > 50
    assert stage["first_step_seconds"] > 0
    assert (stage["teacher_operations_per_image"] > 0) == (name == "student")
    assert ("over_timm" in stage) == (name != "sam_teacher")


def test_shares_of_the_peak_follow_from_speed_and_operations(measured):
    found = measured[0]
    (peaks,) = found["matrix_peak"].values()
    stage = found["stages"]["student"]
    share = stage["images_per_second"]["step"] * stage["operations_per_image"] / max(peaks.values())
    assert stage["share_of_peak"]["step"] == pytest.approx(share)
    work = stage["operations_per_image"] + stage["teacher_operations_per_image"]
    whole = stage["images_per_second"]["whole"] * work / max(peaks.values())
    assert stage["share_of_peak"]["whole"] == pytest.approx(whole)
    plain, sam = (found["stages"][name]["operations_per_image"] for name in ("teacher", "sam_teacher"))
    assert sam == 2 * plain
    assert found["sam"]["teacher"]["sam_over_plain"] > 0


def test_the_configuration_and_the_machine_are_told(measured):
    found = measured[0]
    told = found["stages"]["student"]["configuration"]
    assert (told["data"], told["image_size"], told["batch_images"], told["precision"]) == ("digits", 16, 16, "32-true")
    assert told["teacher"]["name"] == "cifar_resnet8"
    assert {"cpu", "cpu_cores", "threads", "gpus", "torch", "torchvision", "timm", "lightning"} <= set(found["machine"])
    assert platform.node() not in json.dumps(machine()).split('"')


def test_the_table_has_a_column_for_each_stage(tiny, capfd, monkeypatch):
    monkeypatch.setitem(SIZES, "cpu", (64,))
    words = ("training.measured=[baseline,sam_baseline]", "repeats=1", "training.batches=1", "output=found.json")
    assert main(["benchmark", "part=training", *tiny, *words]) == 0
    printed = capfd.readouterr()
    for text in ("baseline", "sam_baseline", "step alone, images/s", "matrix peak in 32-true", "found.json"):
        assert text in printed.out
    assert "timm" not in printed.out
    assert "Traceback" not in printed.err


def test_a_recipe_s_time_is_its_images_over_the_speed(tiny, tmp_path, capfd):
    words = ("generated=1000", "protocol=val", "data.val_fraction=0.2", "evaluate_every=2", *SHORT)
    assert main(["benchmark", "part=recipe", *tiny, *words]) == 0
    found = json.loads((tmp_path / "found.json").read_text())
    assert set(found["stages"]) == {"teacher", "student"}
    assert found["stages"]["teacher"]["configuration"]["sam"]
    for stage, epochs, epoch_images in zip(found["stages"].values(), (2, 3), (61, 61), strict=True):
        assert (stage["epochs"], stage["epoch_images"]) == (epochs, epoch_images)
        assert stage["training_seconds"] == pytest.approx(epochs * epoch_images / stage["images_per_second"])
        # One evaluation of the validation split's 17 images after two epochs, and the test of 500.
        assert stage["evaluated_images"] == 500 + 17
        assert stage["evaluation_seconds"] == pytest.approx(517 / stage["evaluated_per_second"])
    assert found["seconds"] == pytest.approx(sum(stage["seconds"] for stage in found["stages"].values()))
    assert "together" in capfd.readouterr().out


def test_times_are_said_in_a_unit_that_reads_well():
    assert [duration(t) for t in (3.21, 150, 3600, 5 * 3600, 4 * 86400)] == [
        *("3.2 s", "2.5 min", "1.0 h", "5.0 h", "4.0 days")
    ]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["training.measured=[]"], "training.measured=[] names no stage; type training.measured=[student], say."),
        (["training.measured=[techer]"], "did you mean 'teacher'?"),
        (["compare=tim"], "compare=tim is no choice; did you mean 'timm'?"),
        (["generated=many"], "generated=many is no number; type generated=null for none."),
        (["student.batch_size=auto", "generated=900"], "student.batch_size=auto is sought with the data set's own"),
        (["part=profile", "profile.stage=studnt"], "part=profile measures stages, and 'studnt' is none; did you mean"),
        (["part=epoch", "epoch.stage=teachr"], "did you mean 'teacher'?"),
        (["part=recipe", "stages=[student]"], "The student has no teacher"),
    ],
)
def test_bad_input_is_answered_in_a_sentence(complain, tiny, words, sentence):
    assert sentence in complain("benchmark", "part=training", *tiny, *words, output=None)
