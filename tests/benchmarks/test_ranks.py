import os
import sys
from types import SimpleNamespace

import pytest

from deitlt.benchmarks import ranks
from deitlt.benchmarks.rank import UpdateTimer
from deitlt.engine.building import batch_plan
from deitlt.errors import TrainingError

needs_two = pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="a CPU device is a core, and there is one")


@needs_two
@pytest.mark.slow
def test_one_rank_and_several_are_trained_and_timed(benchmark_config):
    config = benchmark_config("ranks.batch=4", "ranks.batches=2", "ranks.warmup=1", "repeats=1")
    found = ranks.measure_ranks(config)
    assert [case["plan"] for case in found["cases"]] == [
        "1 device x 4 images = 4 images an update",
        "1 device x 4 images x 2 micro-batches = 8 images an update",
        "2 devices x 4 images = 8 images an update",
    ]
    assert min(case["images_per_second"] for case in found["cases"]) > 0
    assert min(found["times_one_rank"], found["times_same_update"]) > 0
    assert any("2 ranks over one" in name for name, _ in ranks.ranks_rows(found))


@pytest.fixture
def shown(benchmark_config, monkeypatch):
    """What is made of times that are known: one rank needs 1 s for 8 images, two need 1.25 s for 16."""
    seconds = {4: {1: 1.0}, 8: {1: 2.2, 2: 1.25}}

    def run(stage):
        plan = batch_plan(stage)
        return {"seconds": 2 * seconds[plan.images_per_update][plan.devices], "cpu_seconds": 1.0}

    monkeypatch.setattr(ranks, "run_ranks", run)
    return ranks.measure_ranks(benchmark_config("ranks.batch=4", "ranks.batches=2", "repeats=3"))


def test_the_ratios_are_those_of_images_a_second(shown):
    assert shown["times_one_rank"] == pytest.approx((16 / 2.5) / (8 / 2.0))
    assert shown["times_same_update"] == pytest.approx((16 / 2.5) / (16 / 4.4), abs=1e-3)
    assert [case["images_per_second"] for case in shown["cases"]] == [4.0, 3.64, 6.4]


def test_a_rank_that_fails_is_one_sentence(benchmark_config, monkeypatch):
    monkeypatch.setattr(ranks.subprocess, "run", lambda *_, **__: _ended())
    with pytest.raises(TrainingError, match=r"^1 ranks could not be measured: RuntimeError: no route$"):
        ranks.measure_ranks(benchmark_config("ranks.batch=4"))


def test_a_rank_hears_of_no_other_process_tree_and_finds_no_module_where_one_stands(benchmark_config, monkeypatch):
    seen = {}
    monkeypatch.setattr(ranks.subprocess, "run", lambda *_, env, **__: seen.update(env) or _ended())
    for name in ("LOCAL_RANK", "MASTER_PORT", "OMP_NUM_THREADS"):
        monkeypatch.setenv(name, "8")
    monkeypatch.setattr("sys.path", [path for path in sys.path if path not in ("", os.getcwd())])
    with pytest.raises(TrainingError):
        ranks.measure_ranks(benchmark_config("ranks.batch=4"))
    assert not {"LOCAL_RANK", "MASTER_PORT"} & set(seen)
    assert (seen["OMP_NUM_THREADS"], seen["MKL_NUM_THREADS"], seen["PYTHONSAFEPATH"]) == ("1", "1", "1")


def _ended():
    return SimpleNamespace(returncode=1, stderr="Traceback\n  line\nRuntimeError: no route\n")


def test_updates_are_timed_and_then_the_training_ends(monkeypatch):
    clock = iter(range(100))
    monkeypatch.setattr("deitlt.benchmarks.rank.time.perf_counter", lambda: next(clock))
    timer, trainer = UpdateTimer(warmup=2, updates=3), SimpleNamespace(accumulate_grad_batches=2, should_stop=False)
    stopped = []
    for batch in range(10):
        timer.on_train_batch_end(trainer, None, None, None, batch)
        stopped.append(trainer.should_stop)
    assert stopped == [*[False] * 9, True]
    assert timer.seconds == 1  # the clock was looked at twice
