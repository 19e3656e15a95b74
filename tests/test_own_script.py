"""The page for other people's scripts runs from its first block to its last."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from deitlt.data import ClassBalancedSampler
from deitlt.metrics import GroupedAccuracy

PAGE = Path(__file__).parents[1] / "docs" / "own_script.md"


@pytest.fixture(scope="module")
def blocks():
    return re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)


def test_every_block_of_the_page_runs(blocks, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)  # our own page
    assert len(blocks) == 7
    assert names["callbacks"][1].start_epoch == 1
    assert not torch.equal(names["weighted"].class_weights, torch.ones(10))
    assert {"val/head", "val/tail", "val/macro"} <= set(names["found"])
    assert names["seen"].shape == (16, 3, 32, 32)
    assert list(tmp_path.iterdir()) == []


def test_a_sampler_takes_the_ranks_of_torch_distributed(monkeypatch):
    labels = np.repeat(np.arange(4), (40, 20, 10, 5))
    alone = list(ClassBalancedSampler(labels, seed=3))
    assert len(alone) == 75
    monkeypatch.setattr("torch.distributed.is_initialized", lambda: True)
    monkeypatch.setattr("torch.distributed.get_world_size", lambda: 2)
    shares = []
    for rank in range(2):
        monkeypatch.setattr("torch.distributed.get_rank", lambda rank=rank: rank)
        shares.append(list(ClassBalancedSampler(labels, seed=3)))
    assert [shares[0][0], shares[1][0], shares[0][1]] == alone[:3]
    assert [len(share) for share in shares] == [38, 38]


def test_accuracies_are_drawn_and_keywords_are_torchmetrics_own():
    metric = GroupedAccuracy(5, {"head": [0, 1], "tail": [4]}, sync_on_compute=False)
    assert metric.sync_on_compute is False
    steps = [metric(torch.randn(20, 5), torch.randint(5, (20,))) for _ in range(3)]
    _, axes = metric.plot(steps)
    assert {"all", "head", "tail"} <= set(axes.get_legend_handles_labels()[1])
    assert axes.get_ylim()[1] > 100
    with pytest.raises(ValueError, match="sink_on_compute"):
        GroupedAccuracy(5, {}, sink_on_compute=False)
