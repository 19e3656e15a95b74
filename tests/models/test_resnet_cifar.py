from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from deitlt.models import CifarResNet, CosineLinear
from deitlt.models.resnet_cifar import BasicBlock

GOLDEN = Path(__file__).parents[1] / "golden"
TEACHERS = Path(__file__).parents[3] / "shared" / "golden"  # beside the checkout; not part of it


def parameters(network):
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize("depth", [8, 20, 32, 44, 56])
@pytest.mark.parametrize("head", ["linear", "cosine"])
def test_any_depth_and_size_gives_a_row_of_logits_an_image(depth, head):
    network = CifarResNet(7, depth, head).eval()
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    assert len(convolutions) == depth - 1  # the head is the last layer
    for size in (8, 33):
        assert network(torch.randn(2, 3, size, size)).shape == (2, 7)


def test_resnet32_has_the_published_number_of_parameters():
    assert parameters(CifarResNet(10, 32)) == 464_154
    assert parameters(CifarResNet(10, 32, "cosine")) == 464_154 - 10  # no bias


def test_shortcut_halves_and_pads_with_zeros_on_both_sides():
    block = BasicBlock(4, 8, stride=2).eval()
    x = torch.rand(2, 4, 6, 6)
    nn.init.zeros_(block.bn2.weight)  # silences the convolutions, so the shortcut is what is left
    out = block(x)
    assert torch.equal(out[:, 2:6], x[:, :, ::2, ::2])
    assert not out[:, :2].any()
    assert not out[:, 6:].any()
    assert not any("shortcut" in name or "downsample" in name for name, _ in block.named_parameters())


def test_features_are_what_the_head_reads():
    network = CifarResNet(5, 8).eval()
    images = torch.randn(3, 3, 16, 16)
    features = network.forward_features(images)
    assert features.shape == (3, network.num_features)
    torch.testing.assert_close(network(images), F.linear(features, network.linear.weight, network.linear.bias))


def test_cosines_do_not_depend_on_lengths():
    head = CosineLinear(6, 4)
    features = torch.randn(5, 6)
    cosines = head(features)
    with torch.no_grad():
        head.weight.mul_(torch.rand(4) + 0.5)
    torch.testing.assert_close(head(3 * features), cosines)
    expected = F.cosine_similarity(features[:, :, None], head.weight[None], dim=1)
    torch.testing.assert_close(cosines, expected)


def test_published_ldam_teacher_gives_its_logits():
    path = TEACHERS / "h_teacher_ldam_resnet32_c10.pth.tar"
    if not path.exists():
        pytest.skip(f"the published teacher {path.name} is not in {path.parent}")
    network = CifarResNet(10, 32, "cosine").eval()
    network.load_state_dict(torch.load(path, weights_only=True)["state_dict"])
    with np.load(GOLDEN / "official_teachers.npz") as golden, torch.no_grad():
        logits = network(torch.from_numpy(golden["teacher_input"]))
        np.testing.assert_allclose(logits.numpy(), golden["ldam10_logits"], rtol=0, atol=1e-4)
