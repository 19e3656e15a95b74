import time
from types import SimpleNamespace

import torch

from deitlt.benchmarks import waiting
from deitlt.benchmarks.bench import Workload
from deitlt.benchmarks.fitting import fit_in_rounds
from deitlt.benchmarks.sam_step import sam_over_plain
from deitlt.benchmarks.waiting import Waiting
from deitlt.callbacks import SharpnessAwareMinimization


def test_gaps_are_added_up_by_kind(monkeypatch):
    clock = iter([1.0, 1.5, 4.0, 4.25, 7.0, 9.0])
    monkeypatch.setattr(waiting, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    gaps = Waiting(torch.device("cpu"))
    gaps.end("batch")  # nothing has begun
    for kind in ("batch", "batch", "epoch"):
        gaps.begin()
        gaps.end(kind)
    gaps.end("batch")
    assert (gaps.seconds("batch"), gaps.seconds("epoch")) == (0.75, 2.0)
    gaps.clear()
    assert gaps.seconds("batch") == 0


def _slowly(factory, seconds):
    """The same views, each after a pause."""

    def make(image_size, normalisation):
        view = factory(image_size, normalisation)

        def slow(image):
            time.sleep(seconds)
            return view(image)

        return slow

    return make


def test_a_slow_loader_is_waited_for(open_tiny):
    bench = open_tiny("teacher", batches=4, rounds=2)
    bench.datamodule.view = _slowly(bench.datamodule.view, 0.005)
    for one in fit_in_rounds(bench):
        waited = one.waited + one.waited_between_epochs
        assert one.seconds > waited > 4 * 16 * 0.005  # each of the images was waited for
        # The first of the four batches is waited for at the epoch's beginning.
        assert one.waited > 3 * 16 * 0.005
        assert one.waited_between_epochs > 16 * 0.005


def test_others_have_their_turn_and_nobody_waits_for_them(open_tiny):
    bench = open_tiny("teacher", batches=4, rounds=3)
    turns = []

    def between(turn):
        turns.append((turn, bench.trainer.current_epoch))
        time.sleep(2 if turn == 2 else 0)

    rounds = fit_in_rounds(bench, between)
    assert turns == [(0, 0), (1, 1), (2, 2), (3, 3)]
    assert len(rounds) == 3
    assert all(one.waited + one.waited_between_epochs < one.seconds for one in rounds)
    assert rounds[2].seconds < 2  # not the pause before it


def test_rounds_with_sam_and_without_take_turns(benchmark_config, tmp_path, monkeypatch):
    passes = []
    two_passes = SharpnessAwareMinimization._two_passes

    def counted(self, trainer, *others):
        passes.append(trainer.current_epoch)
        return two_passes(self, trainer, *others)

    monkeypatch.setattr(SharpnessAwareMinimization, "_two_passes", counted)
    found = sam_over_plain(benchmark_config(), "teacher", tmp_path, Workload(3, 2))
    assert sorted(set(passes)) == [0, 2, 4]  # the warm-up, and every second round
    assert len(passes) == 9
    assert {name: len(values) for name, values in found["seconds"].items()} == {"sam": 2, "plain": 2}
    assert found["batches"] == 3
    assert found["sam_over_plain"] > 0
