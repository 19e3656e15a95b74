"""A package that somebody else wrote, installed by pip: one of each part, in every verb."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
import venv
from pathlib import Path

import pytest
from PIL import Image
from sklearn.metrics import accuracy_score, recall_score
from tests.outside.lightning_script import COUNTS

from deitlt.longtail import frequency_groups

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
TRAIN = ("train", "experiment=outside", "method=outside")


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """An environment with the package; deitlt and the rest are borrowed from the one that tests."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "borrowed.pth").write_text(f"{ROOT / 'src'}\n{sysconfig.get_path('purelib')}\n")
    package = shutil.copytree(Path(__file__).with_name("package"), tmp_path_factory.mktemp("source") / "package")
    pip = [sys.executable, "-m", "pip", "--python", folder / "bin" / "python", "install", "--quiet", "--no-index"]
    done = subprocess.run([*pip, "--no-deps", "--no-build-isolation", package], capture_output=True, text=True)
    if done.returncode and "No module named 'setuptools'" in done.stderr:
        pytest.skip("setuptools, which builds the package, is not installed.")
    assert done.returncode == 0, done.stderr
    return folder / "bin" / "python"


@pytest.fixture(scope="module")
def deitlt(python, tmp_path_factory):
    """Runs a command as the package's user would, and gives what it printed."""
    place = tmp_path_factory.mktemp("work")

    def run(*words, code=0):
        command = [python, "-m", "deitlt", *map(str, words)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=place, timeout=300)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    return run


@pytest.fixture(scope="module")
def trained(deitlt, tmp_path_factory):
    """A finished run, and what it printed."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    return folder, deitlt(*TRAIN, "report=true", f"paths.output_dir={folder}")


def found(run):
    """What a run measured, without what differs from one time to the next."""
    metrics = json.loads((run / "metrics.json").read_text())
    return {stage: metrics[stage] for stage in ("teacher", "student", "second")}


def test_its_choices_are_listed_and_need_no_word(deitlt, trained):
    run, said = trained
    assert said.count("note: HalvedStudent on 1") == 2
    assert "second AVG" in said
    assert all("train/loss" in (run / stage / "lines.txt").read_text() for stage in found(run))
    assert "The focal loss." in deitlt("list", "losses")
    page = (run / "report.html").read_text()
    assert "second CLS" in page
    assert "TwoHeads (width 6)" in page


def test_every_verb_takes_its_parts(deitlt, trained, tmp_path):
    run, _ = trained
    before = found(run)
    for stage in before:
        deitlt("evaluate", f"checkpoint={run}", f"stage={stage}", f"paths.output_dir={tmp_path / stage}")
        measured = json.loads((tmp_path / stage / "metrics.json").read_text())
        kind = "teacher" if stage == "teacher" else "student"  # of the network
        answers = [(before[stage], measured[kind])]
        answers = answers if kind == "teacher" else [(before[stage][t], measured[kind][t]) for t in before[stage]]
        assert all(again["all"] == pytest.approx(values["all"]) for values, again in answers)
    Image.new("RGB", (16, 16), "white").save(tmp_path / "white.png")
    deitlt("predict", f"checkpoint={run}", f"images={tmp_path / 'white.png'}", f"output={tmp_path / 'p.csv'}")
    assert len(list(csv.DictReader((tmp_path / "p.csv").open()))) == 1
    formats = "formats=[safetensors,torch_export,hub]"
    deitlt("export", f"checkpoint={run}", "stage=second", formats, f"output={tmp_path / 'files'}")
    assert "second AVG" in (tmp_path / "files" / "README.md").read_text()
    small = ("images=20", "agreement.images=20", "sharpness.images=10", "sharpness.products=2", "sharpness.probes=1")
    deitlt("analyze", f"checkpoint={run}", "stage=all", f"folder={tmp_path / 'analysis'}", *small)
    assert (tmp_path / "analysis" / "second" / "analysis.json").exists()
    assert "second AVG" in deitlt("report", run)
    deitlt("inspect", *TRAIN[1:], f"paths.output_dir={tmp_path / 'seen'}")


def test_without_the_package_its_files_are_refused(trained, tmp_path):
    run, _ = trained
    command = [sys.executable, "-m", "deitlt", "evaluate", f"checkpoint={run}"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=300)
    assert done.returncode == 2
    assert "asks for 'deitlt_outside.TwoHeads'" in done.stderr
    assert "Traceback" not in done.stderr


def test_two_devices_train_what_a_kill_interrupted_to_the_end_of_one_that_was_not(python, deitlt, tmp_path):
    two = ("trainer.devices=2", "data.num_workers=1", "student.epochs=8")
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert "note: HalvedStudent on 2" in deitlt(*TRAIN, *two, f"paths.output_dir={whole}")
    command = [python, "-m", "deitlt", *TRAIN, *two, f"paths.output_dir={killed}"]
    with (tmp_path / "said").open("w") as said:
        process = subprocess.Popen(command, stdout=said, stderr=said, cwd=tmp_path, start_new_session=True)
    until = time.monotonic() + 200
    while not (killed / "student" / "last.ckpt").exists() and time.monotonic() < until and process.poll() is None:
        time.sleep(0.02)
    assert process.poll() is None, (tmp_path / "said").read_text()
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (killed / "metrics.json").exists()
    deitlt("train", f"resume={killed}")
    assert found(killed) == found(whole)


def test_a_sweep_trains_its_parts_in_each_job(deitlt, tmp_path):
    sweep = ("-m", "seed=0,1", f"paths.sweep_dir={tmp_path}")
    said = deitlt(*TRAIN, *sweep)
    assert all((tmp_path / job / "metrics.json").exists() for job in "01")
    assert "best:" in said


def test_a_lightning_script_of_two_ranks_has_the_recalls_of_scikit_learn(tmp_path):
    script = Path(__file__).with_name("lightning_script.py")
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, script, tmp_path], capture_output=True, text=True, env=environment, timeout=300
    )
    assert done.returncode == 0, done.stderr
    ranks = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    assert [len(rank["answers"]) for rank in ranks] == [251, 250]
    assert ranks[0]["found"] == ranks[1]["found"]
    truth, answers = zip(*(pair for rank in ranks for pair in rank["answers"]), strict=True)
    recalls = recall_score(truth, answers, average=None)
    measured = ranks[0]["found"]
    assert measured["val/balanced"] == pytest.approx(100 * recalls.mean())
    assert measured["val/macro"] == pytest.approx(recalls.mean())
    assert measured["val/all"] == pytest.approx(100 * accuracy_score(truth, answers))
    assert measured["val/all"] > 70
    for group, classes in frequency_groups(COUNTS).items():
        assert measured[f"val/{group}"] == pytest.approx(100 * recalls[list(classes)].mean())
