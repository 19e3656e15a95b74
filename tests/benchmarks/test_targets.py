import json
import os
import subprocess
import sys

import pytest

from deitlt.benchmarks import jobs, targets
from deitlt.benchmarks.jobs import CPU, GPU, JOBS, Job, run_job
from deitlt.benchmarks.targets import NOT_YET, TARGETS, judge, targets_table
from deitlt.cli import main
from deitlt.commands.benchmark import PARTS

STAGE = {"lightning_over_bare": 1.01, "waiting_share": 0.01, "waiting_share_between_epochs": 0.015}
TRAINING = {
    "stages": {name: {**STAGE, "share_of_peak": {"whole": 0.3}} for name in ("teacher", "student")},
    "sam": {"teacher": {"sam_over_plain": 2.2}},
}
VIEWS = {
    "sizes": [
        {
            "source_pixels": 32,
            "pixels": size,
            "views": [{"view": "paper", "times_the_first": 1.0}, {"view": "device", "times_the_first": times}],
        }
        for size, times in ((32, 3.5), (224, 0.9))
    ]
}
RESULTS = {
    "index": {"workers_pss_mib": 1000.0},
    "cpu_training": TRAINING,
    "cpu_views": VIEWS,
    "cpu_epoch": {"time_share": 0.7},
    "cpu_ranks": {"times_one_rank": 1.85},
}


def test_every_target_has_a_job_and_every_job_a_part():
    names = [job.name for job in JOBS]
    assert len(set(names)) == len(names)
    assert {target.job for target in TARGETS} <= set(names)
    assert {job.words[0].removeprefix("part=") for job in JOBS} <= set(PARTS) - {"all"}


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.name)
def test_the_words_of_a_job_compose(job, benchmark_config):
    config = benchmark_config(*job.words[1:], recipe=())
    assert config.student is not None
    if job.where == CPU and "trainer=cpu" in job.words:
        assert config.trainer.accelerator == "cpu"


def test_the_words_of_the_ways_compose(benchmark_config):
    (job,) = [job for job in JOBS if job.name == "gpu_teacher_fed_by_workers"]
    ways = benchmark_config(*job.words[1:], recipe=()).epoch
    kept = [word for word in job.words[1:] if not word.startswith("epoch.")]
    for way in (ways.fast, ways.plain):
        config = benchmark_config(*kept, *way, recipe=())
        assert config.teacher.sam.enabled


def judged(results):
    known = {name: {"failed": None} for name in results}
    return {row["what"]: row for row in (judge(target, results, known) for target in TARGETS)}


def test_figures_are_judged_by_their_bounds():
    found = judged(RESULTS)
    measured = {what: (row["measured"], row["reached"]) for what, row in found.items() if row["measured"] is not None}
    assert measured == {
        "Lightning loop over a bare loop, CPU, student": (1.01, True),
        "Lightning loop over a bare loop, CPU, teacher": (1.01, True),
        "SAM step over plain step, ResNet, CPU": (2.2, False),
        "device views over timm's in workers, images/s, 2 cores, 224 px": (0.9, False),
        "device views over timm's in workers, images/s, 2 cores, 32 px": (3.5, True),
        "student epoch on the CPU, bf16 and device views over fp32 and timm's, time": (0.7, False),
        "two CPU ranks over one, a core each, equal micro-batches, images/s": (1.85, True),
        "index of 10 million files, 8 workers: PSS above the same run on nearly none, GB": (1.0486, True),
    }


def test_what_was_not_measured_says_why():
    results = {"gpu_student": TRAINING}
    row = judged(results)["student ViT-B/16, GPU: % of the measured matrix peak"]
    assert (row["measured"], row["reached"], row["wanted"]) == (30.0, False, "at least 35")
    assert judged(results)["student ViT-B/16, GPU: waiting, % of the time"]["measured"] == 2.5
    nothing = judged({})
    assert {(row["measured"], row["reached"], row["why"]) for row in nothing.values()} == {(None, None, NOT_YET)}
    half = judged({"cpu_training": {"stages": {}, "sam": {}}})
    assert "'student'" in half["Lightning loop over a bare loop, CPU, student"]["why"]


@pytest.fixture
def ran(monkeypatch):
    """Runs part=all with jobs that end at once; the index's fails."""
    asked = []

    def run(job, words, folder):
        asked.append((job.name, list(words)))
        if job.name == "index":
            return None, "The disk is full."
        return RESULTS.get(job.name, {}), ""

    monkeypatch.setattr(targets, "run_job", run)
    monkeypatch.setattr(targets, "can_run", lambda job: job.where == CPU)
    return asked


def test_one_job_that_fails_does_not_stop_the_others(ran, capfd):
    assert main(["benchmark", "part=all", "repeats=3", "workers=3", "output=found.json"]) == 0
    with open("found.json") as file:
        found = json.load(file)
    assert [name for name, _ in ran] == [job.name for job in JOBS if job.where == CPU]
    index = next(words for name, words in ran if name == "index")
    assert "repeats=3" in index
    assert "workers=3" in index  # the user's word takes the place of the job's
    assert "workers=8" not in index
    assert not any(word.startswith(("part=all", "output=")) for word in index)
    assert found["jobs"]["index"]["failed"] == "The disk is full."
    assert found["jobs"]["gpu_student"] == {"failed": NOT_YET, "seconds": None, "file": None}
    whys = {row["job"]: row["why"] for row in found["targets"]}
    assert whys["index"] == "The disk is full."
    assert whys["gpu_student"] == NOT_YET
    assert whys["cpu_ranks"] is None
    out = capfd.readouterr().out
    assert NOT_YET in out
    assert "job index failed" in out


def test_each_result_is_written_before_the_next_job(ran, monkeypatch, tmp_path):
    output, seen = tmp_path / "found.json", []

    def run(job, words, folder):
        seen.append(json.loads(output.read_text())["jobs"] if output.exists() else None)
        return RESULTS[job.name], ""

    monkeypatch.setattr(targets, "run_job", run)
    assert main(["benchmark", "part=all", "all.jobs=[index,cpu_epoch]", f"output={output}"]) == 0
    assert seen[0] is None
    assert seen[1]["index"]["failed"] is None


def test_a_job_that_there_is_not_is_named(complain):
    sentence = complain("benchmark", "part=all", "all.jobs=[cpu_view]", output=None)
    assert "all.jobs has 'cpu_view', which is none; did you mean 'cpu_views'?" in sentence
    assert "all.jobs=[] names no job" in complain("benchmark", "part=all", "all.jobs=[]", output=None)


def test_views_are_measured_as_the_paper_has_them_where_the_row_says():
    views = {job.name: job.words for job in JOBS if "part=views" in job.words}
    assert all("experiment=cifar10_lt_if100" in words for words in views.values())  # with RandAugment
    assert ("trainer=cpu" in views["cpu_views"], "trainer=gpu" in views["gpu_views"]) == (True, True)


@pytest.mark.slow
def test_a_job_is_a_command_of_its_own(tmp_path):
    job = Job("small", CPU, ("part=index", "rows=30", "workers=1", "repeats=1"))
    found, failed = run_job(job, job.words, tmp_path)
    assert (failed, found["rows"]) == ("", 30)
    assert found["machine"]["threads"] == min(2, os.cpu_count())
    assert found["machine"]["gpus"] == []
    assert (tmp_path / "small.json").exists()


def test_what_a_command_complains_of_is_its_sentence(tmp_path):
    job = Job("wrong", CPU, ("part=index", "rows=1"))
    assert run_job(job, job.words, tmp_path) == (None, "rows=1 is too small; type rows=2 or more.")


def test_a_command_that_takes_too_long_is_given_up(tmp_path, monkeypatch):
    def run(command, timeout, **options):
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setattr(jobs.subprocess, "run", run)
    assert run_job(JOBS[0], JOBS[0].words, tmp_path) == (None, "it took more than 3600 seconds")


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system keeps no process to cores")
def test_a_job_of_the_cpu_has_two_cores_and_one_of_the_gpu_all(monkeypatch):
    moved, mine = [], set(range(16))
    monkeypatch.setattr(jobs.os, "sched_getaffinity", lambda _: mine)
    monkeypatch.setattr(jobs.os, "sched_setaffinity", lambda _, cores: moved.append(cores))
    with jobs._on_cores(Job("a", CPU, ())):
        assert moved == [{0, 1}]
    with jobs._on_cores(Job("b", GPU, ())):
        assert moved == [{0, 1}, mine]
    assert "CUDA_VISIBLE_DEVICES" not in set(jobs._environment(Job("b", GPU, ()))) - set(os.environ)
    assert jobs._environment(Job("a", CPU, ()))["CUDA_VISIBLE_DEVICES"] == ""


@pytest.mark.parametrize("where", [CPU, GPU])
def test_a_job_finds_no_module_where_one_stands_and_is_no_rank(where, monkeypatch):
    monkeypatch.setattr("sys.path", [path for path in sys.path if path not in ("", os.getcwd())])
    monkeypatch.setenv("LOCAL_RANK", "1")
    found = jobs._environment(Job("a", where, ()))
    assert found["PYTHONSAFEPATH"] == "1"
    assert "LOCAL_RANK" not in found


def test_the_table_says_what_was_reached():
    rows = targets_table({"targets": list(judged(RESULTS).values()), "jobs": {"x": {"failed": "No."}}})
    words = {row[0]: row[1:] for row in rows}
    assert words["SAM step over plain step, ResNet, CPU"] == ("at most 2.1", "2.2", "NO")
    assert words["Lightning loop over a bare loop, GPU, ViT-B"] == ("at most 1.03", NOT_YET, "")
    assert words["job x failed"] == ("", "No.", "")
