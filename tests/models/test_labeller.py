import pytest
import torch
from torch import nn

from deitlt.models import LiveTeacher


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4 * 36, 5))


IMAGES = torch.randn(6, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def halve(images):
    return images[:, :, ::2, ::2]


def test_decisions_and_logits_of_its_own_view():
    expected = network().eval()(halve(IMAGES))
    assert torch.equal(LiveTeacher(network(), halve)(IMAGES), expected.argmax(dim=1))
    logits = LiveTeacher(network(), halve, decisions=False)(IMAGES)
    torch.testing.assert_close(logits, expected.detach())
    assert not logits.requires_grad


def test_it_does_not_learn_from_what_it_sees():
    teacher = LiveTeacher(network().train(), halve)
    before = {name: value.clone() for name, value in teacher.network.state_dict().items()}
    teacher(IMAGES)
    assert not teacher.network.training
    assert not any(p.requires_grad for p in teacher.network.parameters())
    assert all(torch.equal(value, before[name]) for name, value in teacher.network.state_dict().items())


def test_it_answers_in_its_own_precision():
    expected = LiveTeacher(network(), halve, decisions=False)(IMAGES)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(LiveTeacher(network(), halve, decisions=False)(IMAGES), expected)
    coarse = LiveTeacher(network(), halve, decisions=False, dtype=torch.bfloat16)(IMAGES)
    assert coarse.dtype == torch.float32
    assert not torch.equal(coarse, expected)
    torch.testing.assert_close(coarse, expected, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("decisions", [True, False])
def test_a_network_of_permuted_classes_labels_as_the_unpermuted_one(decisions):
    labels = torch.tensor([3, 0, 4, 1, 2])  # of the classes, in the order that the other network answers in
    permuted = network()
    for parameter in (permuted[-1].weight, permuted[-1].bias):
        parameter.data = parameter.data[labels.argsort()]  # row `labels[c]` answers for class c
    expected = LiveTeacher(network(), halve, decisions)(IMAGES)
    torch.testing.assert_close(LiveTeacher(permuted, halve, decisions, class_order=labels)(IMAGES), expected)
    assert not torch.equal(LiveTeacher(permuted, halve, decisions)(IMAGES), expected)


def test_in_half_precision_weights_and_statistics_keep_their_digits():
    teacher = LiveTeacher(network(), halve, decisions=False, dtype=torch.bfloat16)
    with torch.autocast("cpu", enabled=False):
        teacher(IMAGES)
    assert all(value.dtype == torch.float32 for value in teacher.network.parameters())
    full = LiveTeacher(network(), halve)(IMAGES)
    assert (LiveTeacher(network(), halve, dtype=torch.bfloat16)(IMAGES) == full).float().mean() >= 5 / 6


def test_it_goes_where_the_images_are_once(monkeypatch):
    teacher, moves = LiveTeacher(network(), halve, class_order=torch.arange(5)), []
    to = teacher.network.to
    monkeypatch.setattr(teacher.network, "to", lambda device: moves.append(device) or to(device))
    teacher(IMAGES)
    teacher(IMAGES)
    assert moves == [IMAGES.device]
