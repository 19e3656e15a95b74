import pytest
import torch

from deitlt.analysis import Decisions, agreement, decide
from deitlt.types import IGNORED

GROUPS = {"head": [0], "mid": [1], "tail": [2, 3]}
COUNTS = (60, 20, 15, 5)


def said(decisions, labels):
    return Decisions(torch.tensor(decisions), torch.tensor(labels))


def test_groups_are_means_of_classes_and_all_is_weighed_by_the_training_images():
    # Recalls 1/2, 1, 0, 1: looked at evenly, but met in training sixty times, twenty, fifteen and five.
    found = said([0, 1, 1, 1, 0, 0, 3, 3], [0, 0, 1, 1, 2, 2, 3, 3])
    assert agreement(found, GROUPS, COUNTS) == {
        "all": pytest.approx(60 / 2 + 20 + 5),
        "head": 50.0,
        "mid": 100.0,
        "tail": 50.0,
    }


def test_all_does_not_depend_on_how_many_of_each_class_were_looked_at():
    few, many = said([0, 1, 2, 0], [0, 0, 2, 2]), said([0] * 9 + [1] * 9 + [2, 0], [0] * 18 + [2] * 2)
    assert agreement(few, GROUPS, COUNTS) == agreement(many, GROUPS, COUNTS)


def test_of_all_training_images_it_is_their_share():
    decisions, labels = [0, 0, 0, 0, 1, 1, 2, 2], [0, 0, 0, 0, 0, 1, 2, 3]
    found = agreement(said(decisions, labels), GROUPS, (5, 1, 1, 1))
    assert found["all"] == pytest.approx(100 * 6 / 8)


def test_what_was_not_seen_is_absent():
    assert agreement(said([0, 2], [0, 1]), GROUPS, COUNTS) == {"all": pytest.approx(75.0), "head": 100.0, "mid": 0.0}
    assert agreement(said([0], [0]), {"head": [0], "tail": []}, COUNTS) == {"all": 100.0, "head": 100.0}
    nothing = decide(lambda images: images, [])
    assert agreement(nothing, GROUPS, COUNTS) == {}


def test_consistency_is_with_the_own_decision_right_or_not():
    clean, seen = said([1, 1, 2, 3], [0, 1, 2, 3]), said([1, 0, 2, 0], [0, 1, 2, 3])
    assert agreement(seen, GROUPS, COUNTS, reference=clean) == {
        "all": pytest.approx(60 + 15),
        "head": 100.0,
        "mid": 0.0,
        "tail": 50.0,
    }
    assert agreement(clean, GROUPS, COUNTS, reference=clean)["all"] == pytest.approx(100.0)


@pytest.mark.parametrize("soft", [True, False])
def test_decisions_are_taken_from_logits_or_as_they_come(soft):
    logits = torch.randn(10, 4, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(10) % 4
    batches = [(logits[rows], labels[rows]) for rows in torch.arange(10).split(3)]
    found = decide((lambda images: images) if soft else (lambda images: images.argmax(dim=1)), batches)
    assert torch.equal(found.decisions, logits.argmax(dim=1))
    assert torch.equal(found.labels, labels)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_an_answer_that_is_no_number_is_no_decision(value):
    whole, broken = torch.eye(4), torch.eye(4)
    broken[2, 1] = value
    labels = torch.arange(4)
    assert decide(lambda images: images, [(whole, labels), (broken, labels)]) is None
    assert decide(lambda images: images, [(whole, labels)]) is not None


def test_images_that_count_nowhere_are_left_out():
    logits = torch.eye(4)
    found = decide(lambda images: images, [(logits, torch.tensor([0, IGNORED, 2, IGNORED]))])
    assert found.decisions.tolist() == [0, 2]
    assert found.labels.tolist() == [0, 2]
