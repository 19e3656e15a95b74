import pytest
from torch import nn

from deitlt.models import count_macs, count_parameters, create_student, create_teacher


def test_the_usual_resnet_32_has_the_published_size():
    network = create_teacher(10, "cifar_resnet32")
    assert count_parameters(network) == pytest.approx(0.46e6, rel=0.02)  # He et al., 2016, table 6
    assert count_macs(network, 32) == pytest.approx(0.07e9, rel=0.02)


def test_a_transformers_macs_are_those_of_its_matrices_and_its_state_stays():
    network = create_student(10, "deit_tiny_patch16_224", 32, 4, width=64, depth=2, heads=4).train()
    patches, tokens, width = 64, 66, 64
    block = tokens * 12 * width**2 + 2 * tokens**2 * width
    assert count_macs(network, 32) == 2 * block + patches * 3 * 16 * width + 2 * width * 10
    assert network.training


def test_frozen_parameters_are_not_counted():
    layer = nn.Linear(3, 2)
    layer.bias.requires_grad_(False)
    assert count_parameters(layer) == 6
