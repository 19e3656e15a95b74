import json
import os
import shutil

import pytest
import torch
import wandb
from wandb_records import read_run

from deitlt.analysis import attention_rollout, runner
from deitlt.cli import main
from deitlt.engine import analysis

QUICK = (
    *("agreement.images=20", "sharpness.images=10", "sharpness.products=2", "sharpness.probes=1"),
    *("rollout.images=2", "num_workers=0"),
)
PASS = "parts=[attention,rank,diversity,winners]"


@pytest.fixture
def run(trained, tmp_path):
    """A copy of the trained run that may be written into."""
    return shutil.copytree(trained, tmp_path / "copied")


@pytest.fixture
def drawn(monkeypatch):
    """The rows of the rollouts' picture, as they are drawn."""
    rows, draw = [], analysis.draw_analysis
    monkeypatch.setattr(analysis, "draw_analysis", lambda *given: rows.extend(given[2]) or draw(*given))
    return rows


def analyze(*words):
    assert main(["analyze", *words, *QUICK]) == 0


def read(folder):
    return json.loads((folder / "analysis.json").read_text())


@pytest.fixture(scope="module")
def analysed(trained, tmp_path_factory):
    """Everything of a run's three networks, beside the run."""
    folder = tmp_path_factory.mktemp("analysed")
    analyze(f"checkpoint={trained}", f"folder={folder}", "images=60")
    return folder


def test_a_run_is_analysed_stage_by_stage(analysed):
    teacher, student, baseline = (read(analysed / name) for name in ("teacher", "student", "baseline"))
    common = {"kind", "checkpoint", "epoch", "split", "images", "rank", "calibration", "sharpness", "seconds"}
    assert set(teacher) == common
    assert set(baseline) == common | {"attention_distance"}
    of_students = {"attention_distance", "diversity", "winners", "agreement", "consistency"}
    assert set(student) == common | of_students
    assert (teacher["kind"], student["kind"], baseline["kind"]) == ("teacher", "student", "student")
    assert (teacher["epoch"], student["epoch"], student["images"], student["split"]) == (2, 3, 60, "test")
    assert set(student["calibration"]) == {"cls", "dist", "avg"}
    assert set(student["agreement"]) == {"clean", "cropped", "augmented", "mixed"}
    assert set(student["sharpness"]["tail"]) == {"eigenvalue", "trace", "trace_error", "images"}
    assert student["sharpness"]["all"]["images"] == 10
    assert set(student["seconds"]) == {"pass", "agreement", "sharpness"}


def test_a_stage_of_the_users_own_is_analysed_with_the_others(run):
    shutil.copytree(run / "student", run / "second")
    analyze(f"checkpoint={run}", "parts=[rank]", "images=20")
    assert read(run / "second")["rank"] == read(run / "student")["rank"]


def test_its_pictures_are_those_of_its_parts(analysed):
    names = {path.stem for path in (analysed / "student" / "analysis").iterdir()}
    of_all = {"calibration", "sharpness", "rank"}
    of_students = of_all | {"attention_distance", "rollout"}
    assert names == of_students | {"diversity", "winners", "agreement"}
    assert {path.stem for path in (analysed / "baseline" / "analysis").iterdir()} == of_students
    assert {path.stem for path in (analysed / "teacher" / "analysis").iterdir()} == of_all


def test_it_prints_a_table_and_says_what_is_left_out(run, capfd):
    analyze(f"checkpoint={run}", "parts=all", "images=20")
    printed = capfd.readouterr().out
    for words in ("CLS and DIST disagree", "Hessian: trace", "after the last block, of 16", "teacher right on mixed"):
        assert words in printed
    assert "baseline: no diversity and winners, for it has no DIST token; no agreement, for nobody taught it" in printed
    assert read(run / "student")["epoch"] == 3


def test_one_image_and_classes_with_none(run, capfd):
    analyze(f"checkpoint={run}", "images=1", "stage=student", "parts=all")
    found = read(run / "student")
    printed = capfd.readouterr().out
    assert "student: no rank, for one image has none; type images=2 or more\n" in printed
    assert "digits, student: 1 test image " in printed
    assert found["images"] == 1
    assert len(found["winners"]["classes"]) == 1
    assert "rank" not in found
    assert len(found["diversity"]["disagreement"]) == 2


def test_a_lone_file_goes_without_what_its_teacher_was_shown(run, tmp_path, capfd):
    lone = tmp_path / "lone"
    lone.mkdir()
    shutil.move(run / "student" / "last.ckpt", lone / "mine.ckpt")
    analyze(f"checkpoint={lone / 'mine.ckpt'}", "images=20")
    found = read(lone)
    assert "agreement" not in found
    assert "diversity" in found
    assert "student: no agreement, for no stage.yaml beside it says what" in capfd.readouterr().out


# Whose weights -> the parts that lose a number, and those that are gone.
BROKEN = {
    "student/network.vit.head_dist.bias": ("diversity, winners, calibration, sharpness", {"winners"}),
    "student/network.vit.blocks.0.attn.qkv.weight": (
        "attention_distance, rank, diversity, winners, calibration, sharpness, rollout",
        {"winners"},
    ),
    "teacher/network.conv1.weight": ("rank, calibration, sharpness", set()),
}


@pytest.mark.parametrize(("weight", "lost"), BROKEN.items(), ids=BROKEN)
def test_what_is_not_finite_is_left_out_and_the_rest_is_kept(weight, lost, run, capfd):
    stage, _, name = weight.partition("/")
    checkpoint = run / stage / "last.ckpt"
    content = torch.load(checkpoint, weights_only=True)
    weights = content["state_dict"][name]
    weights[(0,) * weights.ndim] = torch.nan
    torch.save(content, checkpoint)
    analyze(f"checkpoint={run}", f"stage={stage}", "images=20", "ema=false")
    said, gone = lost
    printed = capfd.readouterr().out
    assert f"{stage}: what is NaN or infinite is left out of {said}; look at the run's losses." in printed
    found = read(run / stage)
    everything = {"attention_distance", "diversity", "winners"} if stage == "student" else set()
    assert (everything | {"rank", "calibration", "sharpness", "images"}) - gone <= set(found)
    assert not gone & set(found)
    assert set(found["sharpness"]["all"]) == {"images"}
    assert (run / stage / "analysis.csv").exists()


@pytest.mark.parametrize("buffer", ["conv1.weight", "bn1.running_var"])  # FiniteLoss looks at no buffer
def test_a_broken_teacher_agrees_with_nothing(buffer, run, trained, capfd):
    content = torch.load(run / "teacher" / "last.ckpt", weights_only=True)
    content["state_dict"][f"network.{buffer}"].fill_(torch.nan)
    torch.save(content, run / "teacher" / "last.ckpt")
    stage = run / "student" / "stage.yaml"
    stage.write_text(stage.read_text().replace(str(trained), str(run)))
    analyze(f"checkpoint={run}", "stage=student", "parts=[rank,agreement]", "images=20")
    said = "student: what is NaN or infinite is left out of agreement, consistency; look at the run's losses."
    assert said in capfd.readouterr().out
    found = read(run / "student")
    assert "rank" in found
    assert not {"agreement", "consistency"} & set(found)
    assert not (run / "student" / "analysis" / "agreement.png").exists()


@pytest.mark.parametrize("broken", [False, True])
def test_a_rollout_that_is_left_out_is_named(broken, run, drawn, monkeypatch, capfd):
    def break_one(network, images):
        shares = attention_rollout(network, images)
        shares["dist"][0] = torch.nan if broken else 0.5
        return shares

    monkeypatch.setattr(runner, "attention_rollout", break_one)
    analyze(f"checkpoint={run}", "stage=student", "parts=[rollout]")
    said = "student: what is NaN or infinite is left out of rollout; look at the run's losses."
    assert (said in capfd.readouterr().out) == broken
    assert len(drawn) == (1 if broken else 2)


def test_a_run_that_was_moved_finds_its_teacher(tiny, tmp_path):
    assert main(["train", *tiny, "analysis.every=null", "paths.output_dir=here"]) == 0
    shutil.move(tmp_path / "here", tmp_path / "there")
    analyze("checkpoint=there", "stage=student", "parts=[agreement]")
    assert set(read(tmp_path / "there" / "student")) == {
        *("kind", "checkpoint", "epoch", "split", "agreement", "consistency", "seconds"),
    }


def test_the_teacher_is_asked_where_the_network_is(run, monkeypatch):
    devices = []
    answer = {"agreement": {"clean": {"all": 90.0}}}
    monkeypatch.setattr(analysis, "teacher_agreement", lambda *given: devices.append(given[-1]) or answer)
    analyze(f"checkpoint={run}", "stage=student", "parts=[agreement]", "accelerator=cpu")
    assert devices == [torch.device("cpu")]  # the network's, and not None


def test_training_leaves_what_it_measured_and_analysis_draws_it(tiny, tmp_path):
    words = [*tiny, "analysis.every=1", "analysis.images=20", "paths.output_dir=run"]
    assert main(["train", *words]) == 0
    names = sorted(path.name for path in (tmp_path / "run" / "student" / "analysis").glob("*.json"))
    assert names == [f"epoch_{epoch:04d}.json" for epoch in range(4)]
    first = json.loads((tmp_path / "run" / "student" / "analysis" / names[0]).read_text())
    assert set(first["agreement"]) == {"clean", "cropped", "augmented", "mixed"}
    header = (tmp_path / "run" / "student" / "metrics.csv").read_text().splitlines()[0].split(",")
    assert {f"analysis/{name}" for name in ("rank/dist/block00", "agreement/mixed/tail")} <= set(header)
    pictures = {path.stem for path in (tmp_path / "run" / "student" / "analysis").glob("*.png")}
    assert "diversity_over_epochs" in pictures
    analyze("checkpoint=run", "stage=student", "parts=[rank]")
    pictures = {path.stem for path in (tmp_path / "run" / "student" / "analysis").glob("*.png")}
    assert pictures == {"rank", "diversity_over_epochs"}


@pytest.mark.slow
@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="a CPU device is a core, and there is one")
def test_two_ranks_train_the_same_weights_with_it_and_without(tiny, teacher, tmp_path):
    for name, every in (("with", 1), ("without", "null")):
        words = ["trainer.accelerator=cpu", "trainer.devices=2", f"analysis.every={every}", f"paths.output_dir={name}"]
        assert main(["train", *tiny, teacher, *words]) == 0
    watched, plain = (
        torch.load(tmp_path / name / "student" / "last.ckpt", weights_only=True) for name in ("with", "without")
    )
    for part in ("state_dict", "ema"):
        assert all(torch.equal(value, plain[part][name]) for name, value in watched[part].items())
    assert len(list((tmp_path / "with" / "student" / "analysis").glob("*.json"))) == 4
    assert not (tmp_path / "without" / "student" / "analysis").exists()


def test_wandb_has_the_numbers_and_the_pictures(run, monkeypatch, capfd):
    for name, value in {"WANDB_MODE": "offline", "WANDB_SILENT": "true"}.items():
        monkeypatch.setenv(name, value)
    for name in ("WANDB_CACHE_DIR", "WANDB_DATA_DIR", "WANDB_CONFIG_DIR"):
        monkeypatch.setenv(name, str(run / name))
    analyze(f"checkpoint={run}", "stage=student", "parts=[rank,diversity]", "images=20", "logger=wandb")
    wandb.teardown()
    recorded = read_run(run)
    found = read(run / "student")
    assert recorded.run.job_type == "student"
    assert recorded.exit_code == 0
    tail = recorded.summary["final/analysis/diversity/disagreement/tail"]
    assert tail == pytest.approx(found["diversity"]["disagreement"]["tail"])
    logged = {name for row in recorded.history for name in row if name.startswith("pictures/")}
    pictures = {"/".join(name.split("/")[:3]) for name in logged}
    assert pictures == {f"pictures/analysis/{path.stem}" for path in (run / "student" / "analysis").glob("*.png")}
    assert {"pictures/analysis/rank", "pictures/analysis/diversity"} <= pictures
    (hint,) = (line for line in capfd.readouterr().out.splitlines() if line.startswith("wandb sync"))
    assert str(run / "wandb" / "offline-run-") in hint


WRONG = {
    "parts=[rnak]": ("parts has 'rnak', which is no choice; did you mean 'rank'",),
    "parts=[]": ("parts=[] measures nothing", "type parts=[rank]"),
    "images=0": ("images=0 is not 1 or more", "type images=1 or more"),
    "images=some": ("images=some is no choice", "type all, or a number"),
    "split=tset": ("split=tset is no choice; did you mean 'test'",),
    "split=val": ("without a validation split", "type split=test"),
    "stage=pupil": ("has no pupil, but ", "type stage=baseline or stage=student"),
    "stage=baseline parts=[winners]": ("parts has winners", "no DIST token", "type parts=all"),
    "stage=teacher parts=[attention]": ("parts has attention", "it is a teacher", "rank, calibration, sharpness"),
    "sharpness.probes=0": ("sharpness.probes=0 is not 1 or more",),
}


@pytest.mark.parametrize(("words", "said"), WRONG.items(), ids=WRONG)
def test_a_wrong_value_is_named_with_what_to_type(words, said, complain, trained):
    sentence = complain("analyze", f"checkpoint={trained}", *words.split(), output=None)
    for part in said:
        assert part in sentence


def test_a_stage_that_would_call_something_is_refused(complain, run):
    stage = run / "student" / "stage.yaml"
    stage.write_text(stage.read_text().replace("deitlt.transforms.student_transform", "os.system"))
    sentence = complain("analyze", f"checkpoint={run}", "stage=student", output=None)
    assert "wants to call 'os.system', and was refused" in sentence
    stage.write_text("name: [")
    assert "is no stage that this version can read" in complain("analyze", f"checkpoint={run}", output=None)


def test_nothing_to_analyse(complain, tmp_path):
    (tmp_path / "empty").mkdir()
    assert "holds no checkpoint" in complain("analyze", "checkpoint=empty", output=None)
    assert "There is no checkpoint nowhere" in complain("analyze", "checkpoint=nowhere", output=None)


def test_training_takes_no_wrong_analysis(complain, tiny):
    assert "did you mean 'rank'" in complain("train", *tiny, "analysis.parts=[rnak]")
    assert "analysis.every=0 is not above 0" in complain("train", *tiny, "analysis.every=0")
    assert "analysis.images=0 is not 1 or more" in complain("train", *tiny, "analysis.every=10", "analysis.images=0")
