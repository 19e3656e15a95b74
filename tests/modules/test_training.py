import pytest
import torch
from torch.nn import functional as F

from deitlt.transforms import attention_targets
from deitlt.types import Batch, Pasted

WEIGHTS = torch.tensor([0.1, 0.4, 1.0, 2.5])


def batch():
    stream = torch.Generator().manual_seed(5)
    images = torch.randn(6, 3, 8, 8, generator=stream)
    targets = torch.tensor([0, 1, 2, 3, 0, 1])
    return Batch(images, targets)


def quietly(module):
    """The module with its logged values in a dict."""
    module.logged = {}
    module.log = lambda name, value, **options: module.logged.update({name: float(value)})
    return module


def test_a_student_without_a_teacher_needs_none(student_module):
    plain = quietly(student_module("none", distilled=False))
    loss = plain.training_step(batch(), 0)
    torch.testing.assert_close(loss, F.cross_entropy(plain.network(batch().images).cls, batch().targets))
    assert plain.logged["train/loss_dist"] == 0
    assert plain.tokens == ("cls",)
    assert student_module("none").tokens == ("cls", "dist", "avg")


def test_a_teacher_learns_from_the_truth_alone(teacher_module):
    module = quietly(teacher_module())
    module.reweight(WEIGHTS)
    loss = module.training_step(batch(), 0)
    torch.testing.assert_close(loss, F.cross_entropy(module.network(batch().images), batch().targets, WEIGHTS))
    assert set(module.logged) == {"train/loss"}
    module.reweight(None)
    loss = module.training_step(batch(), 0)
    torch.testing.assert_close(loss, F.cross_entropy(module.network(batch().images), batch().targets))


def test_the_epochs_mean_is_logged(make_trainer, student_module, student_batches):
    module = student_module("none", optimizer=lambda network: torch.optim.SGD(network.parameters(), lr=0.0))
    module.schedule = lambda time: 0.0
    trainer = make_trainer()
    trainer.fit(module, student_batches(3))
    module.log = lambda *args, **kwargs: None
    losses = [float(module.training_step(data, 0).detach()) for data in student_batches(3)]
    assert float(trainer.callback_metrics["train/loss"]) == pytest.approx(sum(losses) / 3, rel=1e-5)
    assert float(trainer.callback_metrics["train/loss"]) == pytest.approx(
        float(trainer.callback_metrics["train/loss_cls"] + trainer.callback_metrics["train/loss_dist"]), rel=1e-5
    )


def test_only_the_network_is_optimised(student_module):
    module = student_module("hard")
    optimised = {id(p) for group in module.configure_optimizers().param_groups for p in group["params"]}
    assert optimised == {id(p) for p in module.network.parameters()}
    assert all(name.startswith("network.") for name in module.state_dict())


def test_a_checkpoint_holds_the_card(make_trainer, student_module, student_batches, tmp_path):
    module = student_module()
    module.spec = {"kind": "student", "counts": [1, 2]}
    trainer = make_trainer()
    trainer.fit(module, student_batches(1))
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    assert torch.load(tmp_path / "a.ckpt", weights_only=True)["deitlt"] == module.spec


def with_local():
    """Six global crops of 8 pixels and three local ones of 4."""
    small = torch.randn(3, 3, 4, 4, generator=torch.Generator().manual_seed(6))
    return batch()._replace(local=Batch(small, torch.tensor([0, 1, 2])))


def test_a_teacher_learns_from_local_crops_too(teacher_module):
    module = quietly(teacher_module())
    data = with_local()
    loss = module.training_step(data, 0)
    whole, local = (F.cross_entropy(module.network(part.images), part.targets) for part in data.parts)
    torch.testing.assert_close(loss, (6 * whole + 3 * local) / 9)


def test_transmix_targets_follow_the_class_tokens_attention(student_module):
    module = quietly(student_module("none", distilled=False))
    vit = module.network.vit  # fresh weights look everywhere alike and answer alike
    vit.blocks[-1].attn.qkv.weight.data.mul_(30)
    vit.head.weight.data.mul_(30)
    data = batch()
    mask = torch.zeros(8, 8, dtype=torch.bool)
    mask[:, 4:] = True
    own = F.one_hot(data.targets, 4).float()
    mixed = data._replace(targets=0.5 * own + 0.5 * own.flip(0), pasted=Pasted(mask, own, own.flip(0)))
    answers, attention = module.network.forward_with_attention(data.images)
    expected = F.cross_entropy(answers.cls, attention_targets(attention, mixed.pasted))
    torch.testing.assert_close(module.training_step(mixed, 0), expected)
    assert not torch.allclose(expected, F.cross_entropy(answers.cls, mixed.targets))
