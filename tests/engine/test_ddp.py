"""Stages on several devices: two CPU processes each, started afresh from the stage's file."""

import json
import os
from pathlib import Path

import pytest

from deitlt.cli import main
from deitlt.engine import ranks

needs_two = pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="a CPU device is a core, and there is one")
pytestmark = needs_two


@pytest.fixture(autouse=True)
def one_thread(environment, monkeypatch):
    monkeypatch.setattr(os, "environ", os.environ)
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.setenv(name, environment[name])


def processes_of(run):
    """Command lines of processes that work on a run; what has ended and was not waited for has none, but a state."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            command = (place / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            state = (place / "stat").read_text().rpartition(")")[2].split()[0]
            parent = int((place / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, IndexError):
            continue  # it ended meanwhile
        if str(run) in command or (state == "Z" and parent == os.getpid()):
            found.append(f"{state} {command}")
    return found


def result_of(run, stage):
    return json.loads((run / stage / "result.json").read_text())


def evaluated(run, stage, output, *words):
    """What one process finds of the checkpoint that several have trained."""
    assert main(["evaluate", f"checkpoint={run}", f"stage={stage}", *words, f"paths.output_dir={output}"]) == 0
    return json.loads((Path(output) / "metrics.json").read_text())


def test_two_processes_train_and_count_each_test_image_once(tiny_vit, tmp_path, capfd):
    run = tmp_path / "run"
    words = ["trainer=ddp", "trainer.accelerator=cpu", "student.images_per_update=16", f"paths.output_dir={run}"]
    assert main(["train", *tiny_vit, *words]) == 0
    printed = capfd.readouterr()
    assert "2 devices x 8 images = 16 images an update" in printed.out
    assert "Traceback" not in printed.err
    assert processes_of(run) == []
    alone = evaluated(run, "student", tmp_path / "alone")
    together = result_of(run, "student")["networks"]["raw"]["accuracy"]
    assert together["cls"] == pytest.approx(alone["student"]["cls"], abs=1e-9)
    assert (run / "student" / "metrics.csv").read_text().count("\n0,") == 1  # one rank writes


def test_an_error_of_the_users_in_a_stage_is_one_sentence(tiny, teacher, tmp_path, monkeypatch, capfd):
    run = tmp_path / "run"

    def go_wrong(tree, look=None):  # a stage that finds something wrong that could not be found before
        (run / "student" / ranks.ERROR_FILE).write_text("The disk is full.")
        return 2

    monkeypatch.setattr(ranks.ProcessTree, "__init__", lambda tree, command, environment: None)
    monkeypatch.setattr(ranks.ProcessTree, "wait", go_wrong)
    assert main(["train", *tiny, teacher, "student.devices=2", f"paths.output_dir={run}"]) == 2
    captured = capfd.readouterr()
    assert captured.err == "deitlt: The disk is full.\n"
    assert not (run / "metrics.json").exists()
    assert not (run / "student" / ranks.ERROR_FILE).exists()


@pytest.mark.slow
def test_an_error_of_the_users_on_two_ranks_is_one_sentence(tiny, teacher, tmp_path, capfd):
    run = tmp_path / "run"
    words = ["student.optimizer.lr=1e30", "student.epochs=5", "student.devices=2", f"paths.output_dir={run}"]
    assert main(["train", *tiny, teacher, *words]) == 2
    captured = capfd.readouterr()
    (line,) = captured.err.splitlines()
    assert "The loss was not finite" in line
    assert "Traceback" not in captured.out
    assert processes_of(run) == []


@pytest.mark.slow
def test_both_stages_run_on_two_devices_and_agree_with_one_process(tiny, tmp_path):
    run = tmp_path / "run"
    words = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "evaluate_every=1", "watch_test=true"]
    assert main(["train", *tiny, *words, f"paths.output_dir={run}"]) == 0
    assert processes_of(run) == []
    metrics = json.loads((run / "metrics.json").read_text())
    for stage, part in (("teacher", "teacher"), ("student", "student")):
        alone = evaluated(run, stage, tmp_path / stage)
        assert flat(metrics[part]) == pytest.approx(flat(alone[part]), abs=1e-9)
    average = evaluated(run, "student", tmp_path / "ema", "ema=true")
    assert flat(metrics["student_ema"]) == pytest.approx(flat(average["student"]), abs=1e-9)


@pytest.mark.slow
def test_two_processes_find_what_one_finds_class_by_class(begun, trained):
    config = begun / "config.yaml"
    text = config.read_text()
    assert "  accelerator: cpu\n  devices: 1\n" in text
    config.write_text(text.replace("  accelerator: cpu\n  devices: 1\n", "  accelerator: cpu\n  devices: 2\n"))
    assert main(["train", f"resume={begun}"]) == 0  # the student has all its epochs: it is only tested
    assert result_of(begun, "student")["networks"] == result_of(trained, "student")["networks"]


def flat(accuracy):
    """Accuracies of one or several tokens as numbers by name."""
    return {
        f"{outer}/{inner}": number
        for outer, value in accuracy.items()
        for inner, number in (value.items() if isinstance(value, dict) else [("", value)])
    }


@pytest.mark.slow
@pytest.mark.parametrize(("teachers", "students"), [(1, 2), (2, 1)])
def test_each_stage_may_have_its_own_number_of_devices(teachers, students, tiny, tmp_path, capfd):
    run = tmp_path / "run"
    words = [f"teacher.devices={teachers}", f"student.devices={students}", f"paths.output_dir={run}"]
    assert main(["train", *tiny, *words]) == 0
    printed = capfd.readouterr().out
    assert printed.count("teacher: epoch 2/2") == 1
    assert printed.count("student: epoch 3/3") == 1
    metrics = json.loads((run / "metrics.json").read_text())
    assert {"teacher", "student", "student_ema"} <= set(metrics)
    assert processes_of(run) == []


@pytest.mark.slow
def test_a_sweep_of_runs_on_two_devices_trains_each_once(tiny_vit, tmp_path):
    words = ["trainer=ddp", "trainer.accelerator=cpu", "paths.sweep_dir=sweep", "-m", "seed=0,1"]
    assert main(["train", *tiny_vit, *words]) == 0
    runs = [json.loads((tmp_path / "sweep" / str(job) / "metrics.json").read_text()) for job in (0, 1)]
    assert [run["seed"] for run in runs] == [0, 1]
    assert processes_of(tmp_path) == []
