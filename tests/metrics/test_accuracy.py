import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score, top_k_accuracy_score
from tests.modules.device_waits import Waits
from torch.nn import functional as F
from torchmetrics.classification import MulticlassConfusionMatrix

from deitlt.metrics import Confusions, GroupedAccuracy, TokenAccuracy
from deitlt.types import IGNORED, TokenLogits

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


def logits_for(*answers, classes=3):
    return torch.nn.functional.one_hot(torch.tensor(answers), classes).float()


def measure(metric, logits, targets):
    metric.update(logits, torch.as_tensor(targets))
    return {name: float(value) for name, value in metric.compute().items()}


@pytest.mark.parametrize("token", ["cls", "dist", "avg"])
def test_accuracies_equal_the_authors(token):
    cls, dist = torch.from_numpy(GOLDEN["c10_cls_logits"]), torch.from_numpy(GOLDEN["c10_dist_logits"])
    accuracy = TokenAccuracy(10, GROUPS, ("cls", "dist", "avg"))
    for rows in torch.arange(1000).split(300):
        accuracy.update(TokenLogits(cls[rows], dist[rows]), torch.from_numpy(GOLDEN["c10_targets"])[rows])
    result = accuracy.compute()[token]
    for ours, theirs in {
        "all": "acc1",
        "top5": "acc5",
        "head": "head_acc",
        "mid": "med_acc",
        "tail": "tail_acc",
    }.items():
        assert result[ours] == pytest.approx(EXPECTED[f"{theirs}_{token}"], rel=1e-9)


def test_no_group_gains_by_ties_of_logits_in_half_precision():
    """In bfloat16 the mean of 1 + 2^-7 and 1 is 1, which ties with the mean of the first class."""
    cls, dist = torch.tensor([[1.0, 1.0, 1 + 2**-7]]), torch.ones(1, 3)
    accuracy = TokenAccuracy(3, {"head": [0], "tail": [2]}, ("avg",))
    accuracy.update(TokenLogits(cls.bfloat16(), dist.bfloat16()), torch.tensor([2]))
    accuracy.update(TokenLogits(cls.bfloat16(), dist.bfloat16()), torch.tensor([0]))
    found = accuracy.compute()["avg"]
    assert (found["head"], found["tail"]) == (0.0, 100.0)


def test_unbalanced_images_agree_with_sklearn():
    mask = GOLDEN["c10_imbalanced_mask"]
    logits, targets = GOLDEN["c10_dist_logits"][mask], GOLDEN["c10_targets"][mask]
    result = measure(GroupedAccuracy(10, GROUPS), torch.from_numpy(logits), targets)
    answers = logits.argmax(axis=1)
    assert result["balanced"] == pytest.approx(100 * balanced_accuracy_score(targets, answers))
    assert result["all"] == pytest.approx(100 * (answers == targets).mean())
    assert result["all"] != pytest.approx(result["balanced"], abs=0.1)
    assert result["top5"] == pytest.approx(100 * top_k_accuracy_score(targets, logits, k=5))


def test_what_was_not_seen_is_absent():
    groups = {"head": np.array([0, 1]), "mid": [2], "tail": [3], "none": []}
    result = measure(GroupedAccuracy(4, groups), logits_for(0, 3, classes=4).bfloat16(), [0, 3])
    assert result == {"all": 100.0, "balanced": 100.0, "head": 100.0, "tail": 100.0, "top5": 100.0}


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_without_an_image_there_is_no_number():
    metric = GroupedAccuracy(3, {"head": [0]})
    assert metric.compute() == {}
    assert metric.per_class().isnan().all()
    assert [part.tolist() for part in Confusions(3).class_pairs()] == [[], [], []]


def test_ignored_rows_are_not_counted_and_nothing_is_saved():
    metric = GroupedAccuracy(3, {"head": [0], "tail": [1, 2]})
    result = measure(metric, logits_for(0, 1, 0, 2), [0, 2, IGNORED, IGNORED])
    assert result["all"] == 50.0
    assert [state.tolist() for state in (metric.seen, metric.hits, metric.hits_top5)] == [
        [1, 0, 1],
        [1, 0, 0],
        [1, 0, 1],
    ]
    assert metric.state_dict() == {}
    metric.reset()
    assert measure(metric, logits_for(0), [0])["all"] == 100.0


def test_top_five_among_many_and_few_classes():
    logits = torch.arange(8.0).repeat(2, 1)
    assert measure(GroupedAccuracy(8, {}), logits, [3, 2])["top5"] == 50.0
    assert measure(GroupedAccuracy(4, {}), logits[:, :4], [3, 0])["top5"] == 100.0
    assert measure(GroupedAccuracy(8, {}, top_k=2), logits, [6, 5])["top2"] == 50.0


@pytest.mark.slow
def test_two_ranks_count_as_one(tmp_path):
    command = [sys.executable, "-c", RANKS]
    ranks = [subprocess.Popen([*command, str(rank), str(tmp_path / "store")]) for rank in (0, 1)]
    assert [rank.wait(timeout=120) for rank in ranks] == [0, 0]


CLS = torch.tensor([[3.0, 0.0, 0.0], [3.0, 0.0, 0.0]])
DIST = torch.tensor([[0.0, 1.0, 0.0], [0.0, 5.0, 0.0]])


def test_each_token_and_their_mean_are_measured_and_recalls_are_none_where_nothing_was_seen():
    accuracy = TokenAccuracy(3, {"head": iter([0]), "tail": (1, 2)}, ("cls", "dist", "avg"))
    accuracy.update(TokenLogits(CLS, DIST), torch.tensor([0, 1]))
    result = accuracy.compute()
    assert {token: numbers["all"] for token, numbers in result.items()} == {"cls": 50, "dist": 50, "avg": 100}
    assert result["cls"] == {"all": 50.0, "balanced": 50.0, "head": 100.0, "tail": 0.0, "top5": 100.0}
    per_class = {"cls": [100.0, 0.0, None], "dist": [0.0, 100.0, None], "avg": [100.0, 100.0, None]}
    assert accuracy.per_class() == per_class


def test_a_student_without_a_distillation_token_has_one_accuracy():
    accuracy = TokenAccuracy(3, {"head": (0,), "tail": (1, 2)}, ("cls",))
    accuracy.update(TokenLogits(CLS, None), torch.tensor([0, IGNORED]))
    assert accuracy.compute() == {"cls": {"all": 100.0, "balanced": 100.0, "head": 100.0, "top5": 100.0}}


def test_hits_are_in_the_order_of_the_data_set_however_many_ranks_share_it():
    """Five images, dealt to two ranks in batches of two; the sixth only fills up."""
    targets, cls = torch.tensor([0, 1, 2, 0, 1]), torch.tensor([0, 2, 2, 1, 1])
    order = torch.arange(6) % 5
    rights = []
    for rank in (0, 1):
        accuracy = TokenAccuracy(3, {}, ("cls", "dist"), {"never": lambda logits: -logits.dist}, by_image=True)
        places = torch.arange(rank, 6, 2)
        for part in (places[:2], places[2:]):
            logits = TokenLogits(F.one_hot(cls[order[part]], 3).float(), F.one_hot(targets[order[part]], 3).float())
            accuracy.update(logits, targets[order[part]].where(part < 5, IGNORED))
        rights.append(accuracy.rights())
    found = accuracy.hits(torch.stack(rights))
    assert {token: hits.tolist() for token, hits in found.items()} == {
        "cls": [True, False, True, False, True],
        "dist": [True] * 5,
        "never": [False] * 5,
    }


def test_hits_wait_for_no_device():
    accuracy = TokenAccuracy(3, {"head": [0]}, ("cls", "dist", "avg"), by_image=True).to("meta")
    logits = torch.empty(4, 3, device="meta")
    with Waits("meta") as waits:
        accuracy.update(TokenLogits(logits, logits), torch.empty(4, dtype=torch.int64, device="meta"))
    assert waits.found == {}


def test_the_confusion_matrix_is_torchmetrics():
    stream = torch.Generator().manual_seed(0)
    answers, targets = torch.rand(200, 7, generator=stream), torch.randint(7, (200,), generator=stream)
    confusions = Confusions(7)
    for part in range(4):
        confusions.update(answers[part::4], targets[part::4])
    confusions.update(logits_for(1, classes=7), torch.tensor([IGNORED]))
    assert torch.equal(confusions.class_pairs().matrix(7), MulticlassConfusionMatrix(7)(answers, targets))


def test_confusions_of_thousands_of_classes_take_what_their_images_take():
    confusions = Confusions(8142)
    confusions.update(torch.eye(8142)[:16], torch.arange(16) + 8000)
    assert sum(batch.numel() for batch in confusions.pairs) == 16
    assert confusions.class_pairs().truth.tolist() == list(range(8000, 8016))
