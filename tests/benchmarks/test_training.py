import json
import platform

import pytest

from deitlt.benchmarks import machine, training
from deitlt.cli import main

SHORT = ("repeats=2", "training.batches=3", "output=found.json")


def _run(folder, *words):
    """What `deitlt benchmark` wrote, and the names of the files that it left."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setitem(machine.MATRIX_SIZES, "cpu", (64, 128))
        assert main(["benchmark", *words]) == 0
    return json.loads((folder / "found.json").read_text()), sorted(path.name for path in folder.rglob("*"))


@pytest.fixture(scope="module")
def measured(tiny, tmp_path_factory):
    return _run(tmp_path_factory.mktemp("measured"), "part=training", *tiny, *SHORT, "compare=timm")


def test_nothing_but_the_output_is_left(measured):
    assert measured[1] == ["found.json"]


@pytest.mark.parametrize("name", ["teacher", "sam_teacher", "student"])
def test_each_figure_of_a_stage_is_there(measured, name):
    stage = measured[0]["stages"][name]
    works = {"whole", "bare", "input", "step"}
    works |= set() if name == "sam_teacher" else {"timm_whole", "timm_input", "timm_step"}
    assert set(stage["seconds"]) == set(stage["images_per_second"]) == works
    assert all(len(taken) == 2 and min(taken) > 0 for taken in stage["seconds"].values())
    assert stage["images_per_second"]["step"] == pytest.approx(48 / (sum(stage["seconds"]["step"]) / 2))
    assert stage["lightning_over_bare"] > 0
    assert stage["memory"]["mib"] > 50
    assert stage["first_step_seconds"] > 0
    assert bool(stage["over_timm"]) == (name != "sam_teacher")


def test_ratios_follow_from_the_seconds(measured):
    found = measured[0]
    stage = found["stages"]["student"]
    taken = stage["seconds"]
    ratios = [a / b for a, b in zip(taken["timm_whole"], taken["whole"], strict=True)]
    assert stage["over_timm"]["whole"] == pytest.approx(sum(ratios) / 2)
    (peak,) = found["matrix_peak"].values()
    speed = stage["images_per_second"]["step"] * stage["operations_per_image"]
    assert stage["share_of_peak"] == pytest.approx(speed / peak)
    sam = found["sam"]["teacher"]
    assert {name: len(values) for name, values in sam["seconds"].items()} == {"sam": 2, "plain": 2}


def test_the_configuration_and_the_machine_are_told(measured):
    told = measured[0]["stages"]["student"]["configuration"]
    assert (told["data"]["name"], told["batch_images"], told["precision"]) == ("digits", 16, "32-true")
    assert {"cpu", "cpu_cores", "threads", "gpus", "torch", "timm", "lightning"} <= set(measured[0]["machine"])
    assert platform.node() not in json.dumps(machine.machine()).split('"')


def test_the_table_has_a_column_for_each_stage(measured):
    rows = training.training_table(measured[0])
    assert rows[0] == ["measured", "teacher", "sam_teacher", "student"]
    cells = {row[0]: row[1:] for row in rows}
    assert cells["the whole over timm's, images/s"][1] == "-"
    assert float(cells["step with SAM over without, time"][1]) > 0


def test_a_profile_names_the_most_expensive_operations_and_leaves_a_trace(tiny, tmp_path, capfd):
    words = ("part=profile", "profile.batches=2", "profile.warmup=1", "profile.trace=trace.json", "output=found.json")
    found, files = _run(tmp_path, *tiny, *words)
    assert files == ["found.json", "trace.json"]
    shares = [one["share"] for one in found["operations"]]
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) == pytest.approx(1)
    assert any("addmm" in one["operation"] for one in found["operations"])
    said = capfd.readouterr()
    assert "ms a step" in said.out
    assert "gpuGetDeviceCount" not in said.err


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("part=trianing", "part=trianing is no choice; did you mean 'training'?"),
        ("output=found.txt", "output=found.txt is no JSON file; type output=found.json."),
        ("generated=1", "generated=1 is not 2 or more; type generated=2 or more."),
        ("repeats=0", "repeats=0 is not 1 or more; type repeats=1 or more."),
        ("training.measured=[]", "training.measured=[] names no stage; type training.measured=[student], say."),
        ("training.measured=[techer]", "training.measured has 'techer', which is no choice; did you mean 'teacher'?"),
        ("compare=tim", "compare=tim is no choice; did you mean 'timm'?"),
    ],
)
def test_what_cannot_be_measured_is_said_in_one_sentence(word, sentence, complain):
    assert sentence in complain("benchmark", word, output=None)
