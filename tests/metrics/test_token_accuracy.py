import torch

from deitlt.metrics import TokenAccuracy, logits_by_token
from deitlt.types import IGNORED, TokenLogits

GROUPS = {"head": (0,), "tail": (1, 2)}
CLS = torch.tensor([[3.0, 0.0, 0.0], [3.0, 0.0, 0.0]])
DIST = torch.tensor([[0.0, 1.0, 0.0], [0.0, 5.0, 0.0]])


def test_each_token_and_their_mean_are_measured():
    accuracy = TokenAccuracy(3, GROUPS, ("cls", "dist", "avg"))
    accuracy.update(TokenLogits(CLS, DIST), torch.tensor([0, 1]))
    result = accuracy.compute()
    assert {token: numbers["all"] for token, numbers in result.items()} == {"cls": 50, "dist": 50, "avg": 100}
    assert result["cls"] == {"all": 50.0, "balanced": 50.0, "head": 100.0, "tail": 0.0, "top5": 100.0}
    assert all(type(value) is float for numbers in result.values() for value in numbers.values())


def test_a_student_without_a_distillation_token():
    assert list(logits_by_token(TokenLogits(CLS, None))) == ["cls"]
    accuracy = TokenAccuracy(3, GROUPS, ("cls",))
    accuracy.update(TokenLogits(CLS, None), torch.tensor([0, IGNORED]))
    assert accuracy.compute() == {"cls": {"all": 100.0, "balanced": 100.0, "head": 100.0, "top5": 100.0}}


def test_the_mean_is_that_of_the_logits():
    torch.testing.assert_close(logits_by_token(TokenLogits(CLS, DIST))["avg"], (CLS + DIST) / 2)


def test_recalls_are_none_where_nothing_was_seen():
    accuracy = TokenAccuracy(3, GROUPS, ("cls", "dist"))
    accuracy.update(TokenLogits(CLS, DIST), torch.tensor([0, 1]))
    assert accuracy.per_class() == {"cls": [100.0, 0.0, None], "dist": [0.0, 100.0, None]}


def test_reset_forgets_every_token():
    accuracy = TokenAccuracy(3, GROUPS, ("cls", "dist"))
    accuracy.update(TokenLogits(CLS, DIST), torch.tensor([0, 1]))
    accuracy.reset()
    accuracy.update(TokenLogits(CLS, DIST), torch.tensor([0, 0]))
    assert {token: numbers["all"] for token, numbers in accuracy.compute().items()} == {"cls": 100, "dist": 0}


def test_groups_may_be_read_once():
    accuracy = TokenAccuracy(3, {"head": iter([0])}, ("cls", "dist"))
    accuracy.update(TokenLogits(CLS, DIST), torch.tensor([0, 1]))
    assert accuracy.compute()["dist"]["head"] == 0.0


def test_nothing_is_saved_with_the_module():
    assert TokenAccuracy(3, GROUPS, ("cls", "dist", "avg")).state_dict() == {}
