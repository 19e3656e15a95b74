"""What makes a student's step faster or smaller, and leaves its gradients as they are."""

from collections import Counter

import pytest
import torch
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from deitlt.losses import DistillationLoss
from deitlt.models import create_student
from deitlt.types import TokenLogits

SIZES = {"image_size": 16, "patch_size": 4, "width": 32, "depth": 3, "heads": 2}
IMAGES = torch.randn(8, 3, 16, 16, generator=torch.Generator().manual_seed(0))
TARGETS = F.one_hot(torch.arange(8) % 4, 4) * 0.9 + 0.025
DECISIONS = torch.tensor([3, 2, 1, 0, 0, 1, 2, 3])


def student(**options):
    torch.manual_seed(0)
    return create_student(4, "deit_tiny_patch16_224", **{**SIZES, "drop_path": 0.5, **options})


def step(network, precision=torch.float32):
    """Loss and gradients of one step with truth and teacher, weighted."""
    torch.manual_seed(1)
    loss = DistillationLoss("hard", class_weights=torch.tensor([0.2, 0.5, 1.0, 2.3]))
    with torch.autocast("cpu", precision, enabled=precision != torch.float32):
        terms = loss(network(IMAGES), TARGETS, DECISIONS)
    terms.loss.backward()
    return terms.loss.detach(), {name: p.grad for name, p in network.named_parameters()}


class Operations(TorchDispatchMode):
    """How often each operation ran."""

    def __init__(self):
        super().__init__()
        self.counts = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.counts[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))


def test_gradients_with_checkpointing_are_those_without():
    loss, gradients = step(student(checkpointing=True))
    expected_loss, expected = step(student())
    assert torch.equal(loss, expected_loss)
    assert gradients.keys() == expected.keys()
    assert all(torch.equal(gradients[name], expected[name]) for name in expected)


@pytest.mark.parametrize(("checkpointing", "times"), [(False, 1), (True, 2)])
def test_checkpointing_runs_each_block_again_on_the_way_back(checkpointing, times):
    network, calls = student(checkpointing=checkpointing, drop_path=0.0), Counter()
    for i, block in enumerate(network.vit.blocks):
        block.register_forward_pre_hook(lambda *args, i=i: calls.update([i]))
    step(network)
    assert calls == dict.fromkeys(range(3), times)


def test_checkpointing_keeps_less():
    def kept(network):
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(lambda x: sizes.append(x.numel()) or x, lambda x: x):
            network(IMAGES)
        return sum(sizes)

    assert kept(student(checkpointing=True)) < 0.5 * kept(student())


def test_checkpointing_leaves_evaluation_and_names_alone():
    network, plain = student(checkpointing=True).eval(), student().eval()
    assert list(network.state_dict()) == list(plain.state_dict())
    with torch.inference_mode():
        answers: TokenLogits = network(IMAGES)
        assert torch.equal(answers.dist, plain(IMAGES).dist)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_training_uses_fused_attention_in_every_block(checkpointing):
    network = student(checkpointing=checkpointing, drop_path=0.0)
    with Operations() as seen:
        step(network)
    forward = sum(n for name, n in seen.counts.items() if "scaled_dot_product" in name and "backward" not in name)
    backward = sum(n for name, n in seen.counts.items() if "scaled_dot_product" in name and "backward" in name)
    assert backward == 3
    assert forward == (6 if checkpointing else 3)
    assert not any("softmax" in name and "log_softmax" not in name for name in seen.counts)


def test_looking_at_attention_does_not_turn_fused_attention_off():
    network = student(drop_path=0.0)
    network.forward_with_attention(IMAGES)
    with Operations() as seen:
        network.forward_with_attention(IMAGES)
    assert sum(n for name, n in seen.counts.items() if "scaled_dot_product" in name) == 3


def test_bfloat16_is_within_its_precision():
    loss, gradients = step(student(drop_path=0.0), torch.bfloat16)
    expected_loss, expected = step(student(drop_path=0.0))
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, expected_loss, rtol=0.01, atol=0)
    both = (torch.cat([g[name].flatten() for name in expected]) for g in (gradients, expected))
    found, wanted = both
    assert (found - wanted).norm() < 0.03 * wanted.norm()
    assert not torch.equal(found, wanted)
