"""Real sweeps with every sweeper and launcher, on two devices: each job trains what it was told, on every rank."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

optuna = pytest.importorskip("optuna")

needs_two = pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="a CPU device is a core, and there is one")
quiet = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
pytestmark = [needs_two, pytest.mark.slow, quiet]

TWO = (
    "trainer=cpu",
    "trainer.devices=2",
    "student.optimizer._target_=sweep_witness.optimizer",
    "trust=[sweep_witness]",
    "report=false",
)
RATES = (0.001, 0.01)
SWEPT = f"student.optimizer.lr={','.join(map(str, RATES))}"


@pytest.fixture
def sweep(tiny_vit, tmp_path, environment):
    """Runs a sweep as a user does; answers with its exit code, its jobs by number, and what it said."""

    def run(*words):
        environment["PYTHONPATH"] = str(Path(__file__).parent)  # sweep_witness
        command = [sys.executable, "-m", "deitlt", "train", "-m", *tiny_vit, "paths.sweep_dir=sweep", *words]
        ended = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
        said = ended.stdout + ended.stderr
        summary = tmp_path / "sweep" / "sweep.json"
        assert summary.exists(), said
        jobs = {job["folder"].rpartition("/")[2]: job for job in json.loads(summary.read_text())["jobs"]}
        return ended.returncode, jobs, said

    return run


def witnessed(tmp_path):
    """(job, rank, learning rate) of every rank that trained."""
    records = [json.loads(file.read_text()) for file in (tmp_path / "sweep").glob("witness_*.json")]
    return sorted((record["job"], record["rank"], record["lr"]) for record in records)


@pytest.mark.parametrize(
    "launcher",
    [
        (),
        ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2"),
        ("hydra/launcher=submitit_local", "hydra.launcher.timeout_min=10"),
    ],
    ids=["basic", "joblib", "submitit_local"],
)
def test_every_job_trains_its_own_parameters_on_every_rank(sweep, tmp_path, launcher):
    code, jobs, said = sweep(*TWO, *launcher, SWEPT)
    assert code == 0, said
    assert witnessed(tmp_path) == [(str(job), rank, lr) for job, lr in enumerate(RATES) for rank in (0, 1)]
    assert {number: job["state"] for number, job in jobs.items()} == {"0": "finished", "1": "finished"}
    assert [f"student.optimizer.lr={lr}" in jobs[str(job)]["overrides"] for job, lr in enumerate(RATES)] == [True] * 2


def test_a_job_killed_on_two_devices_is_reported_and_the_rest_finish_then_and_later(sweep, tmp_path):
    code, jobs, said = sweep(*TWO, "student.optimizer.lr=0.5,0.01")
    assert code == 1
    assert (jobs["0"]["state"], jobs["0"]["reason"]) == ("killed", "by SIGKILL")
    assert jobs["1"]["state"] == "finished"
    assert "Jobs: 1 finished, 1 killed." in said
    (tmp_path / "sweep" / "mended").touch()
    code, jobs, said = sweep(*TWO, "student.optimizer.lr=0.5,0.01")
    assert code == 0, said
    assert {job["state"] for job in jobs.values()} == {"finished"}


def test_a_search_on_two_devices_prunes_on_held_out_images_and_goes_on(sweep, tmp_path):
    words = (*TWO, "hydra/sweeper=deitlt_optuna", "data.val_fraction=0.2", "data.max_count=30", "student.epochs=3")
    words += ("student.optimizer.lr=interval(0.001,0.01)", "evaluate_every=1")
    code, jobs, said = sweep(*words, "hydra.sweeper.n_trials=1", "sweep.prune.after_trials=1")
    assert code == 0, said
    metrics = json.loads((tmp_path / "sweep" / "0" / "metrics.json").read_text())
    assert jobs["0"]["metric"] == "val/student/cls/balanced"
    assert jobs["0"]["value"] == metrics["val"]["student"]["cls"]["balanced"]
    evaluations = tmp_path / "sweep" / "0" / "evaluations.json"
    assert set(json.loads(evaluations.read_text())) == {"1", "2", "3"}
    evaluations.write_text(json.dumps({"1": 0.0, "2": 101.0}))  # nobody is better than this after two epochs
    code, jobs, said = sweep(*words, "hydra.sweeper.n_trials=2", "sweep.prune.after_trials=1")
    assert code == 0, said
    assert (jobs["1"]["state"], jobs["1"]["reason"]) == ("pruned", "after 2 epochs")
    assert {rank for job, rank, _ in witnessed(tmp_path) if job == "1"} == {0, 1}
    backend = optuna.storages.journal.JournalFileBackend(str(tmp_path / "sweep" / "study.log"))
    study = optuna.load_study(study_name="sweep", storage=optuna.storages.JournalStorage(backend))
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "PRUNED"]
    assert study.trials[1].value == jobs["1"]["value"] == study.trials[1].intermediate_values[2]
