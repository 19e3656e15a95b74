import torch

from deitlt.metrics import Confusions, TokenConfusions
from deitlt.types import IGNORED, TokenLogits

CPU = torch.device("cpu")


def logits(*answers, classes=3):
    return torch.nn.functional.one_hot(torch.tensor(answers), classes).float()


def test_pairs_of_class_and_answer_are_counted():
    confusions = Confusions(3)
    confusions.update(logits(0, 1, 1), torch.tensor([0, 0, 1]))
    confusions.update(logits(1, 2), torch.tensor([0, IGNORED]))
    pairs = confusions.class_pairs()
    assert list(zip(*(part.tolist() for part in pairs), strict=True)) == [(0, 0, 1), (0, 1, 2), (1, 1, 1)]
    assert pairs.matrix(3).tolist() == [[1, 2, 0], [0, 1, 0], [0, 0, 0]]


def test_the_matrix_is_torchmetrics():
    from torchmetrics.classification import MulticlassConfusionMatrix

    stream = torch.Generator().manual_seed(0)
    answers, targets = torch.rand(200, 7, generator=stream), torch.randint(7, (200,), generator=stream)
    confusions = Confusions(7)
    for part in range(4):
        confusions.update(answers[part::4], targets[part::4])
    assert torch.equal(confusions.class_pairs().matrix(7), MulticlassConfusionMatrix(7)(answers, targets))


def test_thousands_of_classes_take_what_their_images_take():
    confusions = Confusions(8142)
    confusions.update(torch.eye(8142)[:16], torch.arange(16) + 8000)
    assert sum(batch.numel() for batch in confusions.pairs) == 16
    assert confusions.class_pairs().truth.tolist() == list(range(8000, 8016))


def test_before_the_first_image_there_is_none():
    assert [part.tolist() for part in Confusions(3).class_pairs()] == [[], [], []]


def test_each_token_has_its_own():
    tokens = TokenConfusions(3, ("cls", "dist", "avg"), CPU)
    tokens.update(TokenLogits(logits(0), 3 * logits(1)), torch.tensor([2]))
    assert {name: pairs.answer.tolist() for name, pairs in tokens.compute().items()} == {
        "cls": [0],
        "dist": [1],
        "avg": [1],
    }
