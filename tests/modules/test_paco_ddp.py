import subprocess
import sys
from pathlib import Path

import pytest
import torch
from paco_runs import by_hand, pairs


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Each rank's network after training on two processes; one process tree for all runs."""
    folder = tmp_path_factory.mktemp("ddp")
    script = Path(__file__).with_name("paco_ddp.py")
    done = subprocess.run([sys.executable, script, folder], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return lambda accumulate: [torch.load(f"{folder}/{accumulate}.pt.{rank}") for rank in range(2)]


@pytest.mark.parametrize("accumulate", [1, 2])
def test_queue_labels_and_pointer_are_equal_on_both_ranks(trained, accumulate):
    first, second = trained(accumulate)
    for name in ("queue", "queue_labels", "queue_pointer"):
        assert torch.equal(first[name], second[name]), name
    assert int(first["queue_pointer"]) == 2 * 6 * 4 % 16
    assert (first["queue_labels"] >= 0).all()


@pytest.mark.parametrize("accumulate", [1, 2])
def test_both_ranks_hold_what_one_process_with_both_halves_does(trained, accumulate):
    expected = by_hand([pairs(seed=0), pairs(seed=1)], accumulate, rho=0.3).state_dict()
    for state in trained(accumulate):
        for name, value in expected.items():
            if "running_" not in name and "num_batches" not in name:  # BatchNorm counts each rank's own batches
                torch.testing.assert_close(state[name], value, rtol=1e-9, atol=1e-12)


def test_the_queue_holds_the_keys_of_both_ranks(trained):
    (state, _), halves = trained(2), [pairs(seed=0), pairs(seed=1)]
    last = [batch.targets[4:] for half in halves for batch in half[4:]]  # the last window of two, rank after rank
    assert torch.equal(state["queue_labels"], torch.cat(last))
