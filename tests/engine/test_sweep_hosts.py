"""Jobs of a sweep that train on two hosts each: submitit hands them to a scheduler that only pretends."""

import json
import os
import subprocess
import sys

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf, open_dict
from same_runs import same_end

from deitlt.config.compose import config_dir
from deitlt.engine import sweep_job
from deitlt.engine.sweep_hosts import SLURM_LAUNCHER, check_hosts, follows
from deitlt.errors import ConfigError, Preempted
from deitlt.reports.sweep import read_job

needs_two = pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="a CPU device is a core, and there is one")
# Starts the jobs of an array in the background, one after the other, and says the first one's number.
SBATCH = """#!/bin/bash
grep -q -- '^#SBATCH --nodes=2' "$1" || exit 1
last=$(sed -n 's/^#SBATCH --array=0-\\([0-9]*\\)%.*/\\1/p' "$1")
export SLURM_JOB_NUM_NODES=2 SLURM_NTASKS=2 SLURM_JOB_NODELIST=127.0.0.1 SLURM_ARRAY_JOB_ID=$((RANDOM + 10000))
for task in $(seq 0 $last); do
    SLURM_JOB_ID=$((SLURM_ARRAY_JOB_ID + task)) SLURM_ARRAY_TASK_ID=$task bash "$1"
done < /dev/null > {said} 2>&1 &
echo "Submitted batch job $SLURM_ARRAY_JOB_ID"
"""
# One task a host, with what Slurm tells it.
SRUN = """#!/bin/bash
while [[ $1 == --* ]]; do [[ $1 == --unbuffered ]] || shift; shift; done
for task in 0 1; do SLURM_NODEID=$task SLURM_PROCID=$task SLURM_LOCALID=0 "$@" & done
wait
"""


@pytest.fixture
def slurm(tmp_path, environment):
    """The environment of a machine with stand-ins for Slurm's commands."""
    (tmp_path / "bin").mkdir()
    sbatch = SBATCH.replace("{said}", str(tmp_path / "jobs.txt"))
    sacct = "#!/bin/bash\necho 'JobID|State|NodeList'\n"
    for name, text in {"sbatch": sbatch, "srun": SRUN, "sacct": sacct}.items():
        file = tmp_path / "bin" / name
        file.write_text(text)
        file.chmod(0o755)
    return environment | {"PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}", "GLOO_SOCKET_IFNAME": "lo"}


@pytest.mark.slow
@needs_two
def test_each_job_trains_on_two_hosts_what_one_host_with_two_ranks_trains(tiny_vit, tmp_path, slurm):
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")

    def train(*words):
        command = [sys.executable, "-m", "deitlt", "train", *words, *tiny_vit, "trainer.accelerator=cpu"]
        return subprocess.run(command, env=slurm, cwd=tmp_path, capture_output=True, text=True, check=False)

    sweep = ("-m", "student.optimizer.lr=0.001,-1", "paths.sweep_dir=sweep", "trainer=ddp", "trainer.num_nodes=2")
    launcher = ("hydra/launcher=submitit_slurm", "hydra.launcher.nodes=2", "trainer.devices=1")
    ended = train(*sweep, *launcher)
    said = ended.stdout + ended.stderr + (tmp_path / "jobs.txt").read_text()
    jobs = {job["folder"][-1]: job for job in json.loads((tmp_path / "sweep" / "sweep.json").read_text())["jobs"]}
    assert {number: job["state"] for number, job in jobs.items()} == {"0": "finished", "1": "failed"}, said
    assert ended.returncode == 1
    assert "lr=-1 must be 0 or more" in jobs["1"]["reason"]
    stage = OmegaConf.load(tmp_path / "sweep" / "0" / "student" / "stage.yaml")
    assert (stage.trainer.num_nodes, stage.trainer.devices) == (2, 1)
    one = ("student.optimizer.lr=0.001", "trainer=ddp", "trainer.devices=2", "paths.output_dir=one")
    assert train(*one).returncode == 0
    same_end(tmp_path / "sweep" / "0", tmp_path / "one", "student")


@pytest.mark.parametrize(
    ("hosts", "isolated", "launcher", "words"),
    [
        (2, True, {"_target_": "basic"}, "hydra.launcher.nodes=2 beside it, or leave out -m"),
        (2, True, {"_target_": SLURM_LAUNCHER, "nodes": 1, "tasks_per_node": 1}, "type hydra.launcher.nodes=2"),
        (1, True, {"_target_": SLURM_LAUNCHER, "nodes": 2, "tasks_per_node": 1}, "type hydra.launcher.nodes=1"),
        (2, True, {"_target_": SLURM_LAUNCHER, "nodes": 2, "tasks_per_node": 8}, "hydra.launcher.tasks_per_node=1"),
        (2, False, {"_target_": SLURM_LAUNCHER, "nodes": 2, "tasks_per_node": 1}, "type sweep.isolated=true"),
    ],
)
def test_a_launcher_that_starts_other_hosts_than_the_job_has_is_refused(hosts, isolated, launcher, words):
    config = OmegaConf.create({"trainer": {"num_nodes": hosts}, "sweep": {"isolated": isolated}})
    with pytest.raises(ConfigError, match=words):
        check_hosts(config, OmegaConf.create(launcher))


def test_a_sweep_over_several_hosts_without_slurm_is_one_sentence_before_any_job(complain):
    said = complain("train", "-m", "seed=0,1", "trainer.num_nodes=2", "paths.sweep_dir=sweep", output=None)
    assert "type hydra/launcher=submitit_slurm hydra.launcher.nodes=2" in said


@pytest.mark.parametrize(
    ("launcher", "node", "is_follower"),
    [("basic", None, False), ("basic", "1", False), (SLURM_LAUNCHER, "0", False), (SLURM_LAUNCHER, "1", True)],
)
def test_only_other_hosts_of_a_job_than_its_first_follow(launcher, node, is_follower, monkeypatch):
    monkeypatch.delenv("SLURM_NODEID", raising=False)
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "slurm")  # which a sweep that is typed within a job of submitit's has, too
    if node is not None:
        monkeypatch.setenv("SLURM_NODEID", node)
    assert follows(OmegaConf.create({"_target_": launcher})) == is_follower


@pytest.fixture
def run_job(tmp_path, monkeypatch):
    """Runs, as one host of two that Slurm started, a job whose process does what it is told to; answers with it."""

    def run(node, hosts, does):
        started = []

        class Process:
            errors = ""

            def __init__(self, command, environment):
                started.append(command[-1])

            def wait(self):
                return does()

        monkeypatch.setattr(sweep_job, "ProcessTree", Process)
        monkeypatch.setenv("SLURM_NODEID", node)
        words = [f"trainer.num_nodes={hosts}", "seed=1"]
        with initialize_config_dir(str(config_dir()), version_base="1.3"):
            job = compose("train", overrides=words, return_hydra_config=True)
        with open_dict(job):
            job.hydra.launcher = {"_target_": SLURM_LAUNCHER, "nodes": 2, "tasks_per_node": 1}
            job.hydra.mode, job.hydra.sweep.dir = "MULTIRUN", str(tmp_path)
            job.hydra.runtime.output_dir = str(tmp_path / "0")
            job.hydra.runtime.config_sources = []
            job.hydra.overrides.task = words
        HydraConfig.instance().set_config(job)
        try:
            assert sweep_job.run_job(job) is None
        finally:
            HydraConfig.instance().cfg = None
        return started

    return run


def _stopped():
    raise Preempted()


@pytest.mark.parametrize("does", [_stopped, lambda: Preempted.CODE, lambda: 1])
def test_a_host_that_follows_trains_and_leaves_the_jobs_end_to_the_first(does, run_job, tmp_path):
    assert len(run_job("1", 2, does)) == 1
    assert read_job(tmp_path / "0") is None


def test_the_first_host_of_a_job_that_is_stopped_ends_the_sweep(run_job, tmp_path):
    with pytest.raises(Preempted):
        run_job("0", 2, _stopped)
    assert read_job(tmp_path / "0").state == "preempted"


def test_a_later_job_of_fewer_hosts_than_were_started_fails_on_the_first_and_trains_on_none(run_job, tmp_path, capfd):
    assert run_job("1", 1, _stopped) == []
    assert read_job(tmp_path / "0") is None
    assert run_job("0", 1, _stopped) == []
    job = read_job(tmp_path / "0")
    assert job.state == "failed"
    assert job.reason.endswith("a host's one task starts its ranks.")
    assert f"deitlt: {job.reason}" in capfd.readouterr().err
