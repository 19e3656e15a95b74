import subprocess
import sys
from pathlib import Path

import pytest
import torch
from small_runs import by_hand, flat, golden_data, golden_network, sgd
from torch.nn import functional as F

RHO = 0.5


@pytest.fixture(scope="module")
def trajectories(tmp_path_factory):
    """One process tree for all runs: most of its time is importing."""
    folder = tmp_path_factory.mktemp("ddp")
    script = Path(__file__).with_name("ddp_sam.py")
    done = subprocess.run([sys.executable, script, folder], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return lambda name: [torch.load(f"{folder}/{name}.pt.{rank}") for rank in range(2)]


def gradient(net, x, y):
    return torch.autograd.grad(F.cross_entropy(net(x), y), list(net.parameters()))


def each_rank_climbs_alone():
    """m-sharpness by hand: rank r's own ascent, and the mean of the ranks' second gradients."""
    net, after = golden_network(), []
    optimizer = sgd(net.parameters())
    for x, y in zip(*(part.split(32) for part in golden_data()), strict=True):
        kept = [p.detach().clone() for p in net.parameters()]
        second = []
        for rank in range(2):
            up = gradient(net, x[rank::2], y[rank::2])
            norm = torch.stack([g.norm() for g in up]).norm()
            for p, g in zip(net.parameters(), up, strict=True):
                p.data.add_(RHO * g / (norm + 1e-12))
            second.append(gradient(net, x[rank::2], y[rank::2]))
            for p, old in zip(net.parameters(), kept, strict=True):
                p.data.copy_(old)
        for p, *gradients in zip(net.parameters(), *second, strict=True):
            p.grad = sum(gradients) / 2
        optimizer.step()
        after.append(flat(net))
    return torch.stack(after)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_scope_rank_is_m_sharpness(trajectories, accumulate):
    first, second = trajectories(f"rank{accumulate}")
    assert torch.equal(first, second)
    torch.testing.assert_close(first, each_rank_climbs_alone(), rtol=1e-9, atol=0)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_scope_global_is_one_process_with_the_whole_batch(trajectories, accumulate):
    first, second = trajectories(f"global{accumulate}")
    assert torch.equal(first, second)
    expected = by_hand(golden_network(), golden_data(), lambda epoch: RHO)
    torch.testing.assert_close(first, expected, rtol=1e-9, atol=0)


def test_the_scopes_differ():
    one_process = by_hand(golden_network(), golden_data(), lambda epoch: RHO)
    assert not torch.allclose(each_rank_climbs_alone(), one_process, rtol=1e-6)
