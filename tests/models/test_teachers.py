import pytest
import torch
from torch import nn

from deitlt.errors import ConfigError
from deitlt.models import CifarResNet, CosineLinear, create_teacher, list_teachers


@pytest.mark.parametrize("depth", [8, 20, 32, 44, 56])
def test_cifar_resnets_by_name(depth):
    network = create_teacher(4, f"cifar_resnet{depth}", "cosine")
    assert isinstance(network, CifarResNet)
    assert isinstance(network.linear, CosineLinear)
    assert network.linear.weight.shape == (64, 4)
    assert len(network.layer1) == (depth - 2) // 6


@pytest.mark.parametrize("name", ["resnet10t", "mobilenetv3_small_050", "regnetx_002"])
def test_any_cnn_of_timm_with_a_cosine_head(name):
    network = create_teacher(5, name, "cosine").eval()
    classifiers = [m for m in network.modules() if isinstance(m, CosineLinear)]
    assert len(classifiers) == 1
    seen = []
    classifiers[0].register_forward_hook(lambda module, inputs, output: seen.append(output))
    with torch.no_grad():
        logits = network(torch.randn(2, 3, 64, 64))
    assert logits.shape == (2, 5)
    assert torch.equal(logits, seen[0])  # nothing comes after the cosines
    assert logits.abs().max() <= 1 + 1e-6


def test_a_linear_head_is_timms_own():
    network = create_teacher(5, "resnet10t")
    assert isinstance(network.get_classifier(), nn.Linear)
    assert network(torch.randn(2, 3, 64, 64)).shape == (2, 5)


def test_names_are_listed_and_filtered():
    assert list_teachers("cifar_*") == [f"cifar_resnet{depth}" for depth in (8, 20, 32, 44, 56)]
    assert "resnet50" in list_teachers()
    assert all(name.startswith("regnety_1") for name in list_teachers("regnety_1*"))


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("cifar_resnet33", "cifar_resnet32"), ("cifar_resnet110", "cifar_resnet"), ("resnet5O", "resnet50")],
)
def test_unknown_name_is_named_with_the_nearest(name, nearest):
    with pytest.raises(ConfigError, match=rf"teacher\.model\.name={name}.*did you mean '{nearest}"):
        create_teacher(10, name)


def test_unknown_head_is_named():
    with pytest.raises(ConfigError, match=r"teacher\.model\.head=cosin .*=cosine"):
        create_teacher(10, "cifar_resnet8", "cosin")


@pytest.mark.parametrize("name", ["resnetv2_50", "deit_tiny_distilled_patch16_224"])
def test_a_head_that_cannot_be_a_cosine_is_refused(name):
    with pytest.raises(ConfigError, match=rf"name={name} has no linear classifier.*head=linear"):
        create_teacher(5, name, "cosine")
