import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score, top_k_accuracy_score

from deitlt.metrics import GroupedAccuracy
from deitlt.types import IGNORED

FOLDER = Path(__file__).parents[1] / "golden"
GOLDEN = np.load(FOLDER / "evaluation.npz")
EXPECTED = json.loads((FOLDER / "evaluation.json").read_text())["c10"]
GROUPS = {"head": [0, 1, 2], "mid": [3, 4, 5, 6], "tail": [7, 8, 9]}

RANKS = """
import sys, torch
from torch import distributed as dist
from deitlt.metrics import GroupedAccuracy
rank = int(sys.argv[1])
dist.init_process_group("gloo", init_method="file://" + sys.argv[2], rank=rank, world_size=2)
metric = GroupedAccuracy(3, {"head": [0], "tail": [1, 2]})
targets = torch.tensor([[0, 0, 0, 1], [0, 0, -1, -1]][rank])
answers = torch.tensor([[0, 0, 0, 1], [1, 1, 0, 0]][rank])
metric.update(torch.nn.functional.one_hot(answers, 3).float(), targets)
names = {name: float(value) for name, value in metric.compute().items()}
assert names == {"all": 100 * 4 / 6, "balanced": 80.0, "head": 60.0, "tail": 100.0, "top5": 100.0}, names
per_class = metric.per_class()
assert per_class[:2].tolist() == [60.0, 100.0] and per_class[2].isnan(), per_class
dist.destroy_process_group()
"""


def logits_for(answers, classes):
    return torch.nn.functional.one_hot(torch.tensor(answers), classes).float()


def measure(metric, logits, targets):
    metric.update(logits, torch.as_tensor(targets))
    return {name: float(value) for name, value in metric.compute().items()}


@pytest.mark.parametrize("token", ["cls", "dist", "avg"])
def test_accuracies_equal_the_authors(token):
    cls, dist = torch.from_numpy(GOLDEN["c10_cls_logits"]), torch.from_numpy(GOLDEN["c10_dist_logits"])
    logits = {"cls": cls, "dist": dist, "avg": (cls + dist) / 2}[token]
    metric = GroupedAccuracy(10, GROUPS)
    for rows in torch.arange(1000).split(300):
        metric.update(logits[rows], torch.from_numpy(GOLDEN["c10_targets"])[rows])
    result = metric.compute()
    names = {"all": "acc1", "top5": "acc5", "head": "head_acc", "mid": "med_acc", "tail": "tail_acc"}
    for ours, theirs in names.items():
        assert float(result[ours]) == pytest.approx(EXPECTED[f"{theirs}_{token}"], rel=1e-9)


def test_unbalanced_images_agree_with_sklearn():
    mask = GOLDEN["c10_imbalanced_mask"]
    logits, targets = GOLDEN["c10_dist_logits"][mask], GOLDEN["c10_targets"][mask]
    result = measure(GroupedAccuracy(10, GROUPS), torch.from_numpy(logits), targets)
    answers = logits.argmax(axis=1)
    assert result["balanced"] == pytest.approx(100 * balanced_accuracy_score(targets, answers))
    assert result["all"] == pytest.approx(100 * (answers == targets).mean())
    assert result["all"] != pytest.approx(result["balanced"], abs=0.1)
    assert result["top5"] == pytest.approx(100 * top_k_accuracy_score(targets, logits, k=5))


def test_all_weighs_images_and_balanced_weighs_classes():
    result = measure(GroupedAccuracy(2, {"head": [0], "tail": [1]}), logits_for([0, 0, 0, 0], 2), [0, 0, 0, 1])
    assert result == {"all": 75.0, "balanced": 50.0, "head": 100.0, "tail": 0.0, "top5": 100.0}


def test_what_was_not_seen_is_absent():
    groups = {"head": [0, 1], "mid": [2], "tail": [3]}
    result = measure(GroupedAccuracy(4, groups), logits_for([0, 3], 4), [0, 3])
    assert result == {"all": 100.0, "balanced": 100.0, "head": 100.0, "tail": 100.0, "top5": 100.0}


def test_a_group_without_a_class_is_absent():
    result = measure(GroupedAccuracy(2, {"head": [0, 1], "tail": []}), logits_for([0, 1], 2), [0, 1])
    assert set(result) == {"all", "balanced", "head", "top5"}


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_without_an_image_there_is_no_number():
    metric = GroupedAccuracy(3, {"head": [0]})
    assert metric.compute() == {}
    assert metric.per_class().isnan().all()


def test_ignored_rows_count_nowhere():
    metric = GroupedAccuracy(3, {"head": [0], "tail": [1, 2]})
    result = measure(metric, logits_for([0, 1, 0, 2], 3), [0, 2, IGNORED, IGNORED])
    assert result["all"] == 50.0
    assert metric.seen.tolist() == [1, 0, 1]
    assert metric.hits.tolist() == [1, 0, 0]
    assert metric.hits_top5.tolist() == [1, 0, 1]


def test_top_five_among_many_and_few_classes():
    logits = torch.arange(8.0).repeat(2, 1)
    assert measure(GroupedAccuracy(8, {}), logits, [3, 2])["top5"] == 50.0
    assert measure(GroupedAccuracy(4, {}), logits[:, :4], [3, 0])["top5"] == 100.0
    assert measure(GroupedAccuracy(8, {}, top_k=2), logits, [6, 5])["top2"] == 50.0


def test_per_class_recalls_have_nan_where_nothing_was_seen():
    metric = GroupedAccuracy(3, {})
    metric.update(logits_for([0, 1, 1, 1], 3), torch.tensor([0, 0, 1, 1]))
    recalls = metric.per_class()
    assert recalls[:2].tolist() == [50.0, 100.0]
    assert recalls[2].isnan()


def test_counts_are_whole_numbers_summed_over_ranks_and_not_saved():
    metric = GroupedAccuracy(3, {})
    assert {metric.hits.dtype, metric.hits_top5.dtype, metric.seen.dtype} == {torch.int64}
    assert set(metric._reductions) == {"hits", "hits_top5", "seen"}
    assert metric.state_dict() == {}


def test_reset_forgets():
    metric = GroupedAccuracy(2, {"head": [0]})
    measure(metric, logits_for([1, 1], 2), [0, 1])
    metric.reset()
    assert measure(metric, logits_for([0], 2), [0])["all"] == 100.0


def test_groups_may_be_arrays_and_logits_half():
    metric = GroupedAccuracy(2, {"head": np.array([1]), "tail": np.array([0])})
    assert measure(metric, logits_for([1, 1], 2).bfloat16(), [1, 0])["head"] == 100.0


@pytest.mark.slow
def test_two_ranks_count_as_one(tmp_path):
    command = [sys.executable, "-c", RANKS]
    ranks = [subprocess.Popen([*command, str(rank), str(tmp_path / "store")]) for rank in (0, 1)]
    assert [rank.wait(timeout=120) for rank in ranks] == [0, 0]
