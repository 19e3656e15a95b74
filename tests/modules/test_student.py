from contextlib import contextmanager
from copy import deepcopy

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from deitlt.callbacks import SharpnessAwareMinimization, StudentAveraging
from deitlt.losses import DistillationLoss
from deitlt.models import create_teacher
from deitlt.modules import FrozenTeacher
from deitlt.transforms import attention_targets
from deitlt.types import Batch, Pasted

IMAGES = torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(1))
WEIGHTS = torch.tensor([0.1, 0.4, 1.0, 2.5])


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4 * 36, 4))


def halve(images):
    return images[:, :, ::2, ::2]


def frozen(net=None, **options):
    return FrozenTeacher(network() if net is None else net, halve, **options)


def test_a_teacher_gives_hard_labels_and_scaled_logits_and_learns_nothing_from_what_it_sees():
    expected = network().eval()(IMAGES)
    teacher = frozen(network().train())
    before = deepcopy(teacher.network.state_dict())
    teacher.logits(IMAGES)
    assert not teacher.network.training
    assert not any(p.requires_grad for p in teacher.network.parameters())
    assert all(torch.equal(value, before[name]) for name, value in teacher.network.state_dict().items())
    assert torch.equal(frozen().hard_labels(IMAGES), expected.argmax(dim=1))
    logits = frozen(scale=30.0).logits(IMAGES)
    torch.testing.assert_close(logits, 30 * expected.detach())
    assert not logits.requires_grad


def test_a_teacher_answers_in_its_own_precision():
    expected = frozen().logits(IMAGES)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(frozen().logits(IMAGES), expected)
    coarse = frozen(dtype=torch.bfloat16)
    with torch.autocast("cpu", enabled=False):
        logits = coarse.logits(IMAGES)
    assert logits.dtype == torch.float32
    assert not torch.equal(logits, expected)
    torch.testing.assert_close(logits, expected, rtol=0.05, atol=0.05)
    assert all(value.dtype == torch.float32 for value in coarse.network.parameters())


def test_a_teacher_in_half_precision_votes_for_no_class_by_ties():
    """Logits 1 to 1.0003, of which bfloat16 makes four times 1 and argmax the most frequent class."""
    cnn = create_teacher(4, "cifar_resnet8")
    with torch.no_grad():
        cnn.linear.weight.zero_()
        cnn.linear.bias.copy_(1 + 1e-4 * torch.arange(4))
    assert frozen(cnn, dtype=torch.bfloat16).hard_labels(IMAGES).tolist() == [3] * 6


def test_a_network_of_permuted_classes_labels_as_the_unpermuted_one():
    labels = torch.tensor([3, 0, 1, 2])  # of the classes, in the order of the other network's output
    permuted = network()
    for parameter in (permuted[-1].weight, permuted[-1].bias):
        parameter.data = parameter.data[labels.argsort()]  # row `labels[c]` answers for class c
    torch.testing.assert_close(frozen(permuted, class_order=labels).logits(IMAGES), frozen().logits(IMAGES))
    assert not torch.equal(frozen(permuted).hard_labels(IMAGES), frozen().hard_labels(IMAGES))


def taught_batch(soft=False):
    targets = torch.tensor([0, 1, 2, 3, 0, 1])
    stream = torch.Generator().manual_seed(5)
    images, seen = torch.randn(6, 3, 8, 8, generator=stream), torch.randn(6, 3, 8, 8, generator=stream)
    return Batch(images, 0.9 * F.one_hot(targets, 4).float() + 0.025 if soft else targets, seen)


@pytest.mark.parametrize("soft", [False, True])
def test_a_student_learns_from_targets_and_hard_labels(student_module, soft, quietly):
    teacher = frozen()
    module, data = quietly(student_module("hard", teacher=teacher)), taught_batch(soft)
    module.reweight(WEIGHTS)
    loss = module.training_step(data, 0)
    logits = module.network(data.images)
    cls = 0.5 * F.cross_entropy(logits.cls, data.targets)
    dist = 0.5 * F.cross_entropy(logits.dist, teacher.hard_labels(data.teacher_images), WEIGHTS)
    torch.testing.assert_close(loss, cls + dist)
    expected = {"train/loss": cls + dist, "train/loss_cls": cls, "train/loss_dist": dist}
    assert module.logged == pytest.approx({name: float(value.detach()) for name, value in expected.items()})


def with_local(seen=True):
    """Two global crops of 8 pixels of three images, and one local crop of 4."""
    stream = torch.Generator().manual_seed(6)
    small, asked = torch.randn(3, 3, 4, 4, generator=stream), torch.randn(3, 3, 8, 8, generator=stream)
    local = Batch(small, torch.tensor([0, 1, 2]), asked if seen else None)
    return taught_batch()._replace(crops=2, local=local)


@pytest.mark.parametrize("seen", [True, False])
def test_local_crops_count_as_images_and_take_their_own_label_or_that_of_the_first_crop(student_module, seen, quietly):
    teacher = frozen()
    module, data = quietly(student_module("hard", teacher=teacher)), with_local(seen)
    loss = module.training_step(data, 0)
    shown = teacher.hard_labels(data.teacher_images)
    labels = shown, teacher.hard_labels(data.local.teacher_images) if seen else shown[:3]
    whole, local = (
        module.loss(module.network(part.images), part.targets, taught).loss
        for part, taught in zip(data.parts, labels, strict=True)
    )
    torch.testing.assert_close(loss, (6 * whole + 3 * local) / 9)
    loss.backward()
    assert module.network.vit.pos_embed.grad.abs().sum() > 0


@contextmanager
def counted(teacher):
    """How many images the teacher is asked about."""
    asked, output = [], teacher.output
    teacher.output = lambda images: asked.append(images) or output(images)
    yield asked
    teacher.output = output


@pytest.mark.parametrize("accumulate", [1, 2, 4])  # of five batches: the last update is a short one
def test_the_teacher_is_asked_once_a_batch_also_under_sam(make_trainer, student_module, accumulate):
    teacher = frozen()
    module = student_module("hard", teacher=teacher)
    batches = [taught_batch()._replace(teacher_images=torch.randn(6, 3, 8, 8)) for _ in range(5)]
    callbacks = [SharpnessAwareMinimization(0.1), averaging := StudentAveraging(0.5)]
    with counted(teacher) as asked:
        trainer = make_trainer(max_epochs=2, accumulate_grad_batches=accumulate, callbacks=callbacks)
        trainer.fit(module, DataLoader(batches, batch_size=None))
    assert all(torch.equal(seen, batch.teacher_images) for seen, batch in zip(asked, [*batches, *batches], strict=True))
    assert module._taught == {}
    networks = {module.network, averaging.average.module}
    assert not any(part is teacher.network for held in (module, *networks) for part in held.modules())
    assert all(name.startswith("network.") for name in module.state_dict())


def test_sams_second_pass_learns_the_labels_of_the_first(make_trainer, student_module):
    """With a radius of 0 both passes are the same, whatever the teacher would say when it is asked again."""

    class Fickle(FrozenTeacher):
        def hard_labels(self, images):
            self.said = getattr(self, "said", 0) + 1
            return torch.full((len(images),), self.said % 4)

    def trained(callbacks):
        module = student_module("hard", teacher=Fickle(network(), halve))
        make_trainer(accumulate_grad_batches=2, callbacks=callbacks).fit(
            module, DataLoader([taught_batch()] * 4, batch_size=None)
        )
        return nn.utils.parameters_to_vector(module.network.parameters())

    assert torch.equal(trained([SharpnessAwareMinimization(0.0)]), trained([]))


def test_another_distillation_is_a_loss_of_its_own(student_module, quietly):
    class MeanSquare(DistillationLoss):
        def distill(self, dist, targets, teacher):
            return F.mse_loss(dist, teacher)

    teacher = frozen()
    module, data = quietly(student_module(teacher=teacher)), taught_batch()
    module.loss = MeanSquare("soft")
    logits = module.network(data.images)
    expected = F.cross_entropy(logits.cls, data.targets) + F.mse_loss(logits.dist, teacher.logits(data.teacher_images))
    torch.testing.assert_close(module.training_step(data, 0), expected / 2)


def test_a_student_without_a_teacher_needs_none(student_module, quietly):
    data = taught_batch()
    plain = quietly(student_module("none", distilled=False))
    loss = plain.training_step(data, 0)
    torch.testing.assert_close(loss, F.cross_entropy(plain.network(data.images).cls, data.targets))
    assert plain.logged["train/loss_dist"] == 0
    assert plain.tokens == ("cls",)
    assert student_module("none").tokens == ("cls", "dist", "avg")


def test_transmix_targets_follow_the_class_tokens_attention(student_module, quietly):
    module = quietly(student_module("none", distilled=False))
    vit = module.network.vit  # fresh weights look everywhere alike and answer alike
    vit.blocks[-1].attn.qkv.weight.data.mul_(30)
    vit.head.weight.data.mul_(30)
    data = taught_batch()
    mask = torch.zeros(8, 8, dtype=torch.bool)
    mask[:, 4:] = True
    own = F.one_hot(data.targets, 4).float()
    mixed = data._replace(targets=0.5 * own + 0.5 * own.flip(0), pasted=Pasted(mask, own, own.flip(0)))
    answers, attention = module.network.forward_with_attention(data.images)
    expected = F.cross_entropy(answers.cls, attention_targets(attention, mixed.pasted))
    torch.testing.assert_close(module.training_step(mixed, 0), expected)
    assert not torch.allclose(expected, F.cross_entropy(answers.cls, mixed.targets))
