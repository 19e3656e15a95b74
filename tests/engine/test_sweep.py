"""What a sweep makes of its jobs: a small script stands for the Python that would train them."""

import csv
import json
import signal
import stat
import subprocess
import sys
import time

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from PIL import Image

from deitlt.cli import main
from deitlt.config.compose import config_dir, runs_a_sweep
from deitlt.engine import sweep as sweep_module
from deitlt.engine.objective import build_pruning
from deitlt.engine.sweep import best_command, check_sweep
from deitlt.reports.sweep import SweepJob

PYTHON = sys.executable
# A job finishes, is refused, is killed, is stopped, is pruned or waits for a signal, as its seed says.
SCRIPT = """#!{python}
import json, os, pathlib, signal, sys
words = dict(word.split("=", 1) for word in sys.argv[4:] if "=" in word)
folder = pathlib.Path(words["paths.output_dir"].strip("'"))
with open(folder.parent / "began.txt", "a") as file:
    file.write(" ".join(sys.argv[4:]) + "\\n")
assert "LOCAL_RANK" not in os.environ
assert words["resume"] == "auto"
seed = int(words.get("seed", "0"))
if seed == 1:
    os.kill(os.getpid(), 9)
if seed == 2:
    sys.exit("Traceback\\ndeitlt: teacher.epochs=0 trains nothing.")
if seed == 3:
    sys.exit(75)
if seed == 4:
    (folder / "student").mkdir()
    (folder / "student" / "pruned.json").write_text(json.dumps(dict(epoch=2, **{{"val/avg/balanced": 40.0}})))
    sys.exit(0)
if seed == 6:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
    signal.pause()
reached = 50.0 + seed + float(words.get("student.optimizer.lr", 0))
accuracy = {{"all": 60.0 + seed, "balanced": reached, "tail": 7.0}}
student = {{"avg": accuracy, "cls": accuracy}}
(folder / "metrics.json").write_text(json.dumps({{"student": student, "val": {{"student": student}}}}))
"""


@pytest.fixture
def script(tmp_path, monkeypatch):
    """Jobs are run by the script; answers with what each was told."""
    file = tmp_path / "python"
    file.write_text(SCRIPT.format(python=sys.executable))
    file.chmod(file.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setattr(sweep_module.sys, "executable", str(file))
    monkeypatch.setenv("LOCAL_RANK", "0")  # of a group that a job must not join
    return lambda: (tmp_path / "sweep" / "began.txt").read_text().splitlines()


def swept(*words):
    return main(["train", "-m", "paths.sweep_dir=sweep", *words])


def summary(tmp_path):
    content = json.loads((tmp_path / "sweep" / "sweep.json").read_text())
    return content, {job["folder"].rpartition("/")[2]: job for job in content["jobs"]}


def test_a_sweep_ends_with_one_table_a_picture_and_its_best_command(script, tmp_path, capfd):
    assert swept("seed=0,5") == 0
    printed = capfd.readouterr().out
    assert "on the TEST set" in printed
    assert "best: deitlt train seed=5" in printed
    rows = list(csv.reader((tmp_path / "sweep" / "sweep.csv").read_text().splitlines()))
    assert rows[0][:3] == ["job", "seed", "student/avg/balanced"]
    assert [row[1] for row in rows[1:]] == ["5", "0"]
    assert "deitlt train seed=5" in (tmp_path / "sweep" / "sweep.md").read_text()
    assert Image.open(tmp_path / "sweep" / "sweep.png").width > 100


def test_a_job_that_is_killed_or_refused_is_a_row_and_the_others_finish(script, tmp_path, capfd):
    assert swept("seed=0,1,2,5") == 1
    content, jobs = summary(tmp_path)
    assert [job["folder"].rpartition("/")[2] for job in content["jobs"]] == ["3", "0", "1", "2"]
    assert (jobs["3"]["value"], jobs["3"]["accuracy"]) == (55.0, {"all": 65.0, "balanced": 55.0, "tail": 7.0})
    assert (jobs["1"]["state"], jobs["1"]["reason"]) == ("killed", "by SIGKILL")
    assert (jobs["2"]["state"], jobs["2"]["reason"]) == ("failed", "teacher.epochs=0 trains nothing.")
    said = capfd.readouterr()
    assert "Jobs: 2 finished, 1 killed, 1 failed." in said.out
    assert "job 2 failed: teacher.epochs=0 trains nothing.\n" in said.out  # below the table, in one piece
    assert "deitlt: teacher.epochs=0 trains nothing." in said.err


def test_a_sweep_in_which_no_job_has_a_value_is_no_success(script, tmp_path, capfd):
    assert swept("seed=0,5", "objective.metric=student/avg/mid") == 1
    assert "no job has finished with a value" in capfd.readouterr().out


def test_the_smallest_value_is_the_best_where_the_user_says_so(script, tmp_path):
    assert swept("seed=0,5", "objective.direction=minimize", "objective.metric=student/avg/all") == 0
    assert summary(tmp_path)[0]["best"] == "deitlt train seed=0"


def test_the_same_words_in_any_order_do_what_is_left_and_others_nothing(script, tmp_path, capfd):
    assert swept("seed=0,1,2", "student.epochs=150") == 1
    assert swept("student.epochs=150", "seed=0,1,2") == 1
    seeds = [next(word for word in words.split() if word.startswith("seed=")) for words in script()]
    assert seeds == ["seed=0", "seed=1", "seed=2", "seed=1", "seed=2"]
    assert "job 0, done before: " in capfd.readouterr().out
    assert swept("seed=2,0", "student.epochs=150") == 2
    assert "holds the job seed=0 student.epochs=150, and not" in capfd.readouterr().err
    assert len(script()) == 5


def test_a_pruned_job_is_a_row_with_what_it_had_reached(script, tmp_path):
    assert swept("seed=0,4", "data.val_fraction=0.1") == 0
    jobs = summary(tmp_path)[1]
    assert (jobs["1"]["state"], jobs["1"]["reason"], jobs["1"]["value"]) == ("pruned", "after 2 epochs", 40.0)
    assert jobs["0"]["metric"] == "val/student/avg/balanced"


def test_a_preempted_job_ends_the_sweep_with_the_code_that_requeues(script, tmp_path, capfd):
    assert swept("seed=0,3,5") == 75
    assert [job["state"] for job in summary(tmp_path)[0]["jobs"]] == ["finished", "preempted"]
    assert f"paths.sweep_dir={tmp_path / 'sweep'} to go on" in capfd.readouterr().err
    assert len(script()) == 2


def test_a_signal_to_the_sweep_reaches_its_job_and_both_end(script, tmp_path):
    words = ["train", "-m", "paths.sweep_dir=sweep", "seed=6,5"]
    code = f"import sys; from deitlt.cli import main; sys.executable = sys.argv[1]; sys.exit(main({words!r}))"
    process = subprocess.Popen([PYTHON, "-c", code, str(tmp_path / "python")], cwd=tmp_path)
    began, deadline = tmp_path / "sweep" / "began.txt", time.monotonic() + 60
    while not began.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 75
    assert len(began.read_text().splitlines()) == 1


def test_a_users_own_folder_of_configurations_reaches_every_job(script, tmp_path):
    (tmp_path / "mine" / "experiment").mkdir(parents=True)
    (tmp_path / "mine" / "experiment" / "own.yaml").write_text("# @package _global_\nseed: 7\n")
    assert swept("--config-dir", "mine", "experiment=own", "student.epochs=150,160") == 0
    assert all(words.startswith(f"--config-dir {tmp_path}/mine experiment=own ") for words in script())
    assert len(script()) == 2
    assert summary(tmp_path)[0]["best"].startswith(f"deitlt train --config-dir {tmp_path}/mine experiment=own student.")


def test_a_picture_that_cannot_be_drawn_costs_no_table(script, tmp_path, monkeypatch):
    def fails(*_, **__):
        raise OSError("no font")

    monkeypatch.setattr("deitlt.reports.sweep_figure.parallel_coordinates", fails)
    assert swept("seed=0,5") == 0
    assert summary(tmp_path)[0]["best"] == "deitlt train seed=5"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("seeds=0,1",), "seeds is no key; did you mean 'seed'?"),
        (("+foo=0,1",), "foo is no key"),
        (("teacher/loss=ldam,foo",), "teacher/loss=foo is no choice"),
        (("seed=0,x",), "seed"),
        (("student.images_per_update=16,0",), "student.images_per_update=0"),
        (("sweep=imbalanced",), "sweep=imbalanced is no choice; did you mean 'imbalance'?"),
        (("hydra/sweeper=deitlt_optuna", "seed=0,1"), "data.val_fraction=0.1"),
        (("seed=0,1", "objective.metric=student/avg/balance"), "did you mean 'student/avg/balanced'?"),
        (
            ("student.drw.start_epoch=1,2", "student.drw=null"),
            "student.drw.start_epoch is no key beside what else was typed",
        ),
        (("seed=0,1", "objective.direction=up"), "objective.direction=up is no choice"),
    ],
)
def test_what_is_wrong_with_any_job_is_one_sentence_before_the_first(complain, words, sentence):
    assert sentence in complain("train", "-m", "paths.sweep_dir=sweep", *words, output=None)


def test_a_ready_sweep_without_m_says_what_to_type(complain):
    assert "type deitlt train -m sweep=rho" in complain("train", "sweep=rho")


JOBS = {"imbalance": 9, "rho": 5, "drw": 5, "alpha": 5, "teacher": 4}


@pytest.mark.parametrize("name", [*JOBS, "optuna"])
def test_a_ready_sweep_is_checked_as_a_whole(name, tmp_path):
    assert check_sweep(["-m", f"sweep={name}", f"paths.sweep_dir={tmp_path}"]) == (tmp_path, "maximize")
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        config = compose("train", overrides=[f"sweep={name}"], return_hydra_config=True)
    swept_ = [OverridesParser.create().parse_override(f"{k}={v}") for k, v in config.hydra.sweeper.params.items()]
    if name in JOBS:
        assert len({len(list(one.sweep_string_iterator())) for one in swept_}) == 1
    assert len((config_dir() / "sweep" / f"{name}.yaml").read_text().splitlines()) <= 30


def test_the_best_command_of_a_ready_sweep_trains_that_job_alone(script, tmp_path):
    assert swept("sweep=alpha", "student.distillation.alpha=0.3,0.5", "sweep.prune.after_epochs=2") == 0
    command = summary(tmp_path)[0]["best"]
    assert command == "deitlt train student.distillation.alpha=0.3 sweep=alpha"
    assert not runs_a_sweep(command.split()[2:])
    job = SweepJob("0", ["objective.metric=x", "seed=1", "a='b c'"], "finished", "x")
    assert best_command(job) == """deitlt train seed=1 'a='"'"'b c'"'"''"""


def test_a_search_asks_tells_prunes_and_goes_on(script, tmp_path):
    optuna = pytest.importorskip("optuna")
    words = ("hydra/sweeper=deitlt_optuna", "data.val_fraction=0.1", "student.optimizer.lr=interval(0.001,0.01)")
    assert swept(*words, "hydra.sweeper.n_trials=3") == 0
    storage = optuna.storages.JournalStorage(
        optuna.storages.journal.JournalFileBackend(str(tmp_path / "sweep" / "study.log"))
    )
    study = optuna.load_study(study_name="sweep", storage=storage)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 3
    jobs = summary(tmp_path)[1]
    assert [trial.value for trial in study.trials] == [jobs[str(n)]["value"] for n in range(3)]
    begun = study.ask(study.trials[0].distributions)  # by a search that was killed
    assert swept(*words, "hydra.sweeper.n_trials=5", "hydra.sweeper.n_jobs=2") == 0
    jobs = summary(tmp_path)[1]
    assert sorted(jobs) == ["0", "1", "2", "3", "5"]  # trial 4 is trial 3's second try, in trial 3's folder
    assert f"student.optimizer.lr={begun.params['student.optimizer.lr']}" in jobs["3"]["overrides"]
    assert len({job["overrides"][-1] for job in jobs.values()}) == 5
    assert swept(*words, "hydra.sweeper.n_trials=5") == 0
    assert len(script()) == 5


def test_a_plugin_that_is_not_installed_says_how_to_get_it(complain, monkeypatch):
    Plugins.instance()  # what is installed registers itself
    repo = ConfigStore.instance().repo["hydra"]
    monkeypatch.setitem(
        repo, "launcher", {name: node for name, node in repo["launcher"].items() if not name.startswith("joblib")}
    )
    said = complain("train", "-m", "seed=0,1", "hydra/launcher=joblib", output=None)
    assert said.endswith("is not installed; type pip install 'deitlt[sweep]'.")
    said = complain("train", "-m", "seed=0,1", "hydra/sweeper=optuna", output=None)
    assert said.endswith("did you mean 'deitlt_optuna'?")


def test_a_search_without_optuna_says_how_to_get_it(complain, monkeypatch):
    monkeypatch.setattr(sweep_module, "find_spec", lambda name: None)
    assert "pip install 'deitlt[sweep]'" in complain(
        "train", "-m", "paths.sweep_dir=sweep", "sweep=optuna", output=None
    )


def test_a_search_whose_trials_all_fail_ends_after_the_first(script, tmp_path):
    pytest.importorskip("optuna")
    words = ("hydra/sweeper=deitlt_optuna", "data.val_fraction=0.1", "student.optimizer.lr=interval(0.001,0.01)")
    assert swept(*words, "seed=2") == 1
    assert len(script()) == 1
    assert summary(tmp_path)[1]["0"]["reason"] == "teacher.epochs=0 trains nothing."


def _finished(folder, values):
    folder.mkdir(parents=True)
    (folder / "metrics.json").touch()
    (folder / "evaluations.json").write_text(json.dumps(values))


@pytest.mark.parametrize(("value", "pruned"), [(49.0, True), (51.0, False)])
@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_a_job_behind_the_median_of_the_finished_ones_is_stopped(value, pruned, direction, tmp_path):
    for number, reached in enumerate((40.0, 50.0, 60.0)):
        _finished(tmp_path / str(number), {"2": reached, "4": reached})
    job = tmp_path / "3"
    (job / "student").mkdir(parents=True)
    known = SweepJob(str(job), [], "running", "val/student/avg/balanced")
    (job / "job.json").write_text(json.dumps(known.as_plain()))
    run = {"objective": {"direction": direction}, "sweep": {"prune": {"after_trials": 3, "after_epochs": 1}}}
    callback = build_pruning(run, "student", job / "student")
    assert callback.metric == "val/avg/balanced"
    assert callback._is_behind(2, value) is (pruned == (direction == "maximize"))
    assert json.loads((job / "evaluations.json").read_text()) == {"2": value}
    assert not callback._is_behind(3, 0.0)  # no other was evaluated then
    run["sweep"]["prune"]["after_trials"] = 4
    assert not build_pruning(run, "student", job / "student")._is_behind(2, 0.0)
    assert build_pruning(run, "teacher", job / "teacher") is None
    assert build_pruning({}, "student", job / "student") is None
