import math

import pytest
import torch

from deitlt.analysis import ExpertDiversity, TokenWinners, agreement, decide
from deitlt.analysis.experts import ClassSums, Decisions, cosine_distance
from deitlt.types import IGNORED, TokenLogits

GROUPS = {"head": (0,), "mid": (1, 2), "tail": (3,)}
BY_GROUP = {"head": [0], "mid": [1], "tail": [2, 3]}
COUNTS = (60, 20, 15, 5)


def logits(cls, dist):
    one_hot = torch.eye(4)
    return TokenLogits(one_hot[torch.tensor(cls)], one_hot[torch.tensor(dist)])


def pairs(*cosines):
    second = torch.tensor([[c, (1 - c * c) ** 0.5] for c in cosines])
    return torch.stack([torch.tensor([2.0, 0.0]).expand(len(cosines), 2), 3 * second], dim=1)


def test_distance_of_known_angles():
    assert cosine_distance(pairs(1.0, 0.0, -1.0, 0.6)).tolist() == pytest.approx([0, 1, 2, 0.4], abs=1e-6)


def test_groups_are_means_of_their_classes_and_all_a_mean_of_images():
    diversity = ExpertDiversity(4, GROUPS)
    features = pairs(1.0, 1.0, 0.0, 0.6)
    diversity.update(features, logits([0, 1, 2, 0], [0, 0, 2, 1]), torch.tensor([0, 1, 1, 2]))
    found = diversity.as_plain()
    assert found["disagreement"] == pytest.approx({"all": 50.0, "head": 0.0, "mid": (50 + 100) / 2})
    assert found["cosine_distance"] == pytest.approx({"all": 1.4 / 4, "head": 0.0, "mid": (0.5 + 0.4) / 2}, abs=1e-6)
    assert "tail" not in found["disagreement"]  # no image of its class was seen


def test_blocks_and_batches():
    diversity = ExpertDiversity(4, GROUPS)
    for cosines in ((1.0, 0.0), (0.6,)):
        for block in range(2):
            diversity.update_block(block, pairs(*cosines) if block else pairs(*[1.0] * len(cosines)))
        answers = logits([0] * len(cosines), [0] * len(cosines))
        diversity.update(pairs(*cosines), answers, torch.zeros(len(cosines), dtype=torch.int64))
    assert diversity.as_plain()["per_block"] == pytest.approx([0.0, 1.4 / 3], abs=1e-6)


def test_winners_ties_and_absent_classes():
    winners = TokenWinners(4)
    winners.update(logits([0, 0, 1, 3], [0, 3, 3, 3]), torch.tensor([0, 0, 1, 3]))
    winners.update(logits([1, 0], [1, 3]), torch.tensor([3, 3]))
    assert winners.as_plain() == {
        "cls": 2,
        "dist": 1,
        "tie": 0,
        "classes": [
            {"class": 0, "cls": 100.0, "dist": 50.0, "winner": "cls"},
            {"class": 1, "cls": 100.0, "dist": 0.0, "winner": "cls"},
            {"class": 3, "cls": pytest.approx(100 / 3), "dist": pytest.approx(200 / 3), "winner": "dist"},
        ],
    }


def test_a_tie_is_nobodys():
    winners = TokenWinners(4)
    winners.update(logits([2, 0], [0, 2]), torch.tensor([2, 2]))
    assert winners.as_plain() == {
        "cls": 0,
        "dist": 0,
        "tie": 1,
        "classes": [{"class": 2, "cls": 50.0, "dist": 50.0, "winner": "tie"}],
    }


def test_without_an_image_nothing_is_said():
    assert ClassSums(4, GROUPS).means() == {}
    assert ExpertDiversity(4, GROUPS).as_plain() == {}
    assert TokenWinners(4).as_plain() == {}


def test_a_value_that_is_no_number_makes_its_means_none():
    sums = ClassSums(4, GROUPS)
    sums.update(torch.tensor([1.0, torch.nan, 3.0]), torch.tensor([0, 1, 2]))
    means = sums.means()
    assert set(means) == {"all", "head", "mid"}
    assert means["head"] == 1.0
    assert all(math.isnan(means[name]) for name in ("all", "mid"))


def said(decisions, labels):
    return Decisions(torch.tensor(decisions), torch.tensor(labels))


def test_groups_are_means_of_classes_and_all_is_weighed_by_the_training_images():
    # Recalls 1/2, 1, 0, 1: looked at evenly, but met in training sixty times, twenty, fifteen and five.
    found = said([0, 1, 1, 1, 0, 0, 3, 3], [0, 0, 1, 1, 2, 2, 3, 3])
    assert agreement(found, BY_GROUP, COUNTS) == {
        "all": pytest.approx(60 / 2 + 20 + 5),
        "head": 50.0,
        "mid": 100.0,
        "tail": 50.0,
    }


def test_what_was_not_seen_is_absent():
    assert agreement(said([0, 2], [0, 1]), BY_GROUP, COUNTS) == {"all": pytest.approx(75.0), "head": 100.0, "mid": 0.0}
    assert agreement(said([0], [0]), {"head": [0], "tail": []}, COUNTS) == {"all": 100.0, "head": 100.0}
    nothing = decide(lambda images: images, [])
    assert agreement(nothing, BY_GROUP, COUNTS) == {}


def test_consistency_is_with_the_own_decision_right_or_not():
    clean, seen = said([1, 1, 2, 3], [0, 1, 2, 3]), said([1, 0, 2, 0], [0, 1, 2, 3])
    assert agreement(seen, BY_GROUP, COUNTS, reference=clean) == {
        "all": pytest.approx(60 + 15),
        "head": 100.0,
        "mid": 0.0,
        "tail": 50.0,
    }
    assert agreement(clean, BY_GROUP, COUNTS, reference=clean)["all"] == pytest.approx(100.0)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_an_answer_that_is_no_number_is_no_decision(value):
    whole, broken = torch.eye(4), torch.eye(4)
    broken[2, 1] = value
    labels = torch.arange(4)
    assert decide(lambda images: images, [(whole, labels), (broken, labels)]) is None


def test_images_that_count_nowhere_are_left_out():
    logits = torch.eye(4)
    found = decide(lambda images: images, [(logits, torch.tensor([0, IGNORED, 2, IGNORED]))])
    assert found.decisions.tolist() == [0, 2]
    assert found.labels.tolist() == [0, 2]
