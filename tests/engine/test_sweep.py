"""Sweeps in this process, and what a sweep makes of jobs that a small script stands for."""

import csv
import json
import stat
import sys

import pytest
from omegaconf import OmegaConf
from PIL import Image
from rich.console import Console

from deitlt.checkpoints import read_checkpoint
from deitlt.cli import main
from deitlt.commands import train
from deitlt.engine import sweep_job, sweep_summary
from deitlt.engine.run_folder import write_json, write_text
from deitlt.errors import Preempted
from deitlt.reports.sweep import SweepJob

HERE = "sweep.isolated=false"  # quick; what a job of its own process is worth is shown by test_sweep_launchers.py

# Stands for Python: a job finishes, is refused, is killed, is stopped or does nothing, as its seed says.
SCRIPT = """#!{python}
import json, os, pathlib, sys
words = dict(word.split("=", 1) for word in sys.argv[4:] if "=" in word)
folder = pathlib.Path((words.get("paths.output_dir") or words["resume"]).strip("'"))
with open(folder.parent / "began.txt", "a") as file:
    file.write(" ".join(sys.argv[4:]) + "\\n")
assert "LOCAL_RANK" not in os.environ
assert (folder / "job.json").exists()  # by which its W&B runs find their group
seed = words.get("seed", "0")
if seed == "1":
    os.kill(os.getpid(), 9)
if seed == "2":
    sys.exit("Traceback\\ndeitlt: teacher.epochs=0 trains nothing.")
if seed == "3":
    sys.exit(75)
accuracy = {{"all": 60.0 + int(seed), "balanced": 50.0 + int(seed), "tail": 7.0}}
(folder / "metrics.json").write_text(json.dumps({{"student": {{"avg": accuracy, "cls": accuracy}}}}))
"""


@pytest.fixture
def script(tmp_path, monkeypatch):
    """Jobs are run by the script; answers with what each was told."""
    file = tmp_path / "python"
    file.write_text(SCRIPT.format(python=sys.executable))
    file.chmod(file.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setattr(sweep_job.sys, "executable", str(file))
    monkeypatch.setenv("LOCAL_RANK", "0")  # of a group that a job must not join
    return lambda: (tmp_path / "sweep" / "began.txt").read_text().splitlines()


def finish(config, run, *_):
    """Stands for the training of a job in this process."""
    accuracy = {"all": 60.0, "balanced": 50.0 + config.seed}
    write_json(run.metrics, {"student": {"avg": accuracy, "cls": accuracy}})


def swept(*words):
    return main(["train", "-m", "paths.sweep_dir=sweep", *words])


def summary(tmp_path):
    content = json.loads((tmp_path / "sweep" / "sweep.json").read_text())
    return content, {job["folder"].rpartition("/")[2]: job for job in content["jobs"]}


def test_a_sweep_makes_a_finished_run_for_each_value_and_ends_with_one_table(tiny_vit, tmp_path, capfd):
    assert swept(*tiny_vit, HERE, "seed=0,1") == 0
    runs = [tmp_path / "sweep" / str(job) for job in (0, 1)]
    metrics = [json.loads((run / "metrics.json").read_text()) for run in runs]
    assert [found["seed"] for found in metrics] == [0, 1]
    weights = [read_checkpoint(run / "student" / "last.ckpt")["state_dict"] for run in runs]
    assert any((weights[0][name] != weights[1][name]).any() for name in weights[0])
    best = max(metrics, key=lambda found: found["student"]["cls"]["balanced"])
    printed = capfd.readouterr().out
    assert "on the TEST set" in printed
    assert f"best: deitlt train {' '.join(tiny_vit[:2])}" in printed
    assert f"seed={best['seed']}" in summary(tmp_path)[0]["best"]
    rows = list(csv.reader((tmp_path / "sweep" / "sweep.csv").read_text().splitlines()))
    assert rows[0][:3] == ["job", "seed", "student/cls/balanced"]
    assert rows[1][1] == str(best["seed"])
    assert "The best job again" in (tmp_path / "sweep" / "sweep.md").read_text()
    assert Image.open(tmp_path / "sweep" / "sweep.png").width > 100


def test_a_picture_that_cannot_be_drawn_costs_no_table(script, tmp_path, capfd, monkeypatch, caplog):
    def fails(*_, **__):
        raise OSError("no font")

    monkeypatch.setattr(sweep_summary, "parallel_coordinates", fails)
    assert swept("seed=0,5") == 0
    assert summary(tmp_path)[0]["best"] == "deitlt train seed=5"
    assert "sweep.md, .csv, .json\n" in capfd.readouterr().out
    assert any("sweep.png could not be drawn, and the run goes on without: no font" in m for m in caplog.messages)


def test_a_job_that_is_killed_or_refused_is_reported_and_the_others_finish(script, tmp_path, capfd, environment):
    assert swept("seed=0,1,2,5") == 1
    content, jobs = summary(tmp_path)
    assert [job["folder"].rpartition("/")[2] for job in content["jobs"]] == ["3", "0", "1", "2"]
    assert jobs["3"]["value"] == 55.0
    assert jobs["3"]["accuracy"] == {"all": 65.0, "balanced": 55.0, "tail": 7.0}
    assert (jobs["1"]["state"], jobs["1"]["reason"]) == ("killed", "by SIGKILL")
    assert (jobs["2"]["state"], jobs["2"]["reason"]) == ("failed", "teacher.epochs=0 trains nothing.")
    assert content["best"] == "deitlt train seed=5"
    said = capfd.readouterr()
    assert "Jobs: 2 finished, 1 killed, 1 failed." in said.out
    assert "job 2 failed: teacher.epochs=0 trains nothing.\n" in said.out  # below the table, in one piece
    assert "deitlt: teacher.epochs=0 trains nothing." in said.err


def test_a_sweep_in_which_no_job_has_a_value_is_no_success(script, tmp_path, capfd):
    assert swept("seed=0,5", "objective.metric=student/avg/mid") == 1
    assert [job["state"] for job in summary(tmp_path)[0]["jobs"]] == ["finished", "finished"]
    assert "no job has finished with a value" in capfd.readouterr().out


def test_a_job_with_devices_that_cannot_be_is_refused_and_the_others_finish(tiny_vit, tmp_path, monkeypatch):
    monkeypatch.setattr(train, "train", finish)
    assert swept(*tiny_vit, HERE, "trainer.devices=1,0") == 1
    _, jobs = summary(tmp_path)
    assert [jobs[number]["state"] for number in "01"] == ["finished", "failed"]
    assert "trainer.devices=0 is no number of devices" in jobs["1"]["reason"]


def test_the_smallest_value_is_the_best_where_the_user_says_so(script, tmp_path):
    assert swept("seed=0,5", "objective.direction=minimize", "objective.metric=student/avg/all") == 0
    content, _ = summary(tmp_path)
    assert content["jobs"][0]["value"] == 60.0
    assert content["best"] == "deitlt train seed=0"


def test_a_job_of_a_sweep_knows_its_folder_and_may_go_on_by_itself(tiny_vit, tmp_path, monkeypatch):
    monkeypatch.setattr(train, "train", finish)
    assert swept(*tiny_vit, HERE, "seed=0,1", "resume=auto") == 0
    assert [job["state"] for job in summary(tmp_path)[0]["jobs"]] == ["finished", "finished"]


def test_the_same_command_does_what_is_left_and_another_one_nothing(script, tmp_path, capfd):
    assert swept("seed=0,1,2") == 1
    killed, refused = (tmp_path / "sweep" / job for job in "12")
    for run in (killed, refused):
        (run / "student").mkdir()
        (run / "config.yaml").touch()
    (killed / "student" / "last.ckpt").touch()  # it had finished an epoch; the other one begins anew
    assert swept("seed=0,1,2") == 1
    assert [words.split()[0] for words in script()[3:]] == [f"resume='{killed}'", "seed=2"]
    assert not (refused / "config.yaml").exists()
    assert [job["state"] for job in summary(tmp_path)[0]["jobs"]] == ["finished", "finished", "failed"]
    assert summary(tmp_path)[1]["2"]["reason"] == "teacher.epochs=0 trains nothing."
    capfd.readouterr()
    assert swept("seed=2,0") == 2
    assert "sweep/0 holds the job seed=0, and not seed=2; type the sweep that was begun" in capfd.readouterr().err
    assert len(script()) == 5


@pytest.mark.slow
@pytest.mark.parametrize(("stop", "trained"), [(KeyboardInterrupt, True), (Preempted, False)])
def test_a_job_in_this_process_goes_on_or_begins_anew(stop, trained, tiny_vit, tmp_path, monkeypatch):
    run = tmp_path / "sweep" / "0"

    def begin(config, folder, *_):
        write_text(folder.config, OmegaConf.to_yaml(config))
        (folder.path / "student").mkdir()
        (folder.path / "student" / ("last.ckpt" if trained else "stage.yaml")).touch()
        raise stop

    monkeypatch.setattr(train, "train", begin)
    words = (*tiny_vit, HERE, "seed=4")
    assert swept(*words) == (75 if stop is Preempted else 130)
    assert summary(tmp_path)[1]["0"]["state"] == ("preempted" if stop is Preempted else "interrupted")
    monkeypatch.setattr(train, "train", finish)
    assert swept(*words) == 0
    assert (run / "student").exists() == trained
    assert summary(tmp_path)[1]["0"]["state"] == "finished"


def test_the_same_words_in_another_order_are_the_same_sweep(script, tmp_path):
    assert swept("seed=0,5", "student.epochs=150") == 0
    assert swept("student.epochs=150", "seed=0,5") == 0
    assert len(script()) == 2


def test_ctrl_c_at_the_end_of_a_job_keeps_its_result_and_begins_no_other(tiny_vit, tmp_path, monkeypatch, capfd):
    def stopped_late(*arguments):
        finish(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(train, "train", stopped_late)
    assert swept(*tiny_vit, HERE, "seed=4,5") == 130
    assert [job["state"] for job in summary(tmp_path)[0]["jobs"]] == ["finished"]
    capfd.readouterr()
    monkeypatch.setattr(train, "train", finish)
    assert swept(*tiny_vit, HERE, "seed=4,5") == 0
    said = capfd.readouterr().out
    assert "job 0, done before: " in said
    assert "job 1: " in said


def test_three_long_keys_fit_a_terminal_of_80_columns():
    accuracy = {"head": 33.3, "mid": 20.0, "tail": 10.0}
    jobs = [
        SweepJob(str(n), [f"student.optimizer.lr=0.0017692{n}", f"student.distillation.alpha=0.700632{n}",
                          f"student.drw.start_epoch={60 + n}"],
                 "finished", "val/student/avg/balanced", None, 10.0, accuracy, 1234.0)
        for n in (0, 1)
    ]  # fmt: skip
    console = Console(width=80, record=True)
    console.print(sweep_summary._fitting_table(jobs, "maximize", console))
    said = console.export_text()
    assert said.count(" finished") == 2
    assert all(word in said for word in ("distillation.", "balanced", "0.001769"))


def test_a_users_own_folder_of_configurations_reaches_every_job(script, tmp_path):
    (tmp_path / "mine" / "experiment").mkdir(parents=True)
    (tmp_path / "mine" / "experiment" / "own.yaml").write_text("# @package _global_\nseed: 7\n")
    assert swept("--config-dir", "mine", "experiment=own", "student.epochs=150,160") == 0
    assert all(words.startswith(f"--config-dir {tmp_path}/mine experiment=own ") for words in script())
    assert len(script()) == 2


def test_a_preempted_job_ends_the_sweep_with_the_code_that_requeues(script, tmp_path, capfd):
    assert swept("seed=0,3,5") == 75
    assert [job["state"] for job in summary(tmp_path)[0]["jobs"]] == ["finished", "preempted"]
    assert f"paths.sweep_dir={tmp_path / 'sweep'} to go on" in capfd.readouterr().err
    assert len(script()) == 2


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("seeds=0,1",), "seeds is no key; did you mean 'seed'?"),
        (("+foo=0,1",), "foo is no key"),
        (("teacher/loss=foo,ldam",), "teacher/loss=foo is no choice"),
        (("sweep=imbalanced",), "sweep=imbalanced is no choice; did you mean 'imbalance'?"),
        (("hydra/sweeper=optuna", "seed=0,1"), "data.val_fraction=0.1"),
        (("seed=0,1", "objective.metric=student/avg/balance"), "did you mean 'student/avg/balanced'?"),
        (("student.drw.start_epoch=1,2", "student.drw=null"), "leave out student.drw=null"),
        (("seed=0,1", "objective.direction=up"), "objective.direction=up is no choice"),
    ],
)
def test_what_is_wrong_with_every_job_is_one_sentence_before_any(complain, words, sentence):
    assert sentence in complain("train", "-m", "paths.sweep_dir=sweep", *words, output=None)


def test_a_ready_sweep_without_m_says_what_to_type(complain):
    assert "type deitlt train -m sweep=rho" in complain("train", "sweep=rho")


def test_a_runs_seed_and_configuration_make_it_again(tiny_vit, tmp_path):
    for name in ("one", "two"):
        assert main(["train", *tiny_vit, "seed=5", f"paths.output_dir={name}"]) == 0
    one, two = (read_checkpoint(tmp_path / name / "student" / "last.ckpt")["state_dict"] for name in ("one", "two"))
    assert all((one[name] == two[name]).all() for name in one)
