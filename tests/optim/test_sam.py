from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from deitlt.errors import ConfigError
from deitlt.optim import ConstantRho, LinearRho, StepRho, ascend


def flat(net):
    return nn.utils.parameters_to_vector(net.parameters()).detach().clone()


def with_gradients(seed=0):
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(5, 7), nn.Linear(7, 3))
    F.cross_entropy(net(torch.randn(4, 5)), torch.tensor([0, 1, 2, 0])).backward()
    return net


def test_sam_goes_rho_up_the_gradient():
    net = with_gradients()
    before, gradient = flat(net), torch.cat([p.grad.flatten() for p in net.parameters()])
    ascend(net.parameters(), 0.3)
    step = flat(net) - before
    assert step.norm() == pytest.approx(0.3, rel=1e-5)
    assert F.cosine_similarity(step, gradient, dim=0) == pytest.approx(1, abs=1e-5)


def test_asam_goes_rho_in_units_of_each_weight():
    net = with_gradients()
    before = flat(net)
    ascend(net.parameters(), 0.3, adaptive=True)
    assert ((flat(net) - before) / before).norm() == pytest.approx(0.3, rel=1e-4)


def test_a_loss_scale_changes_nothing_even_where_the_gradient_is_near_zero():
    def moved_by(scale, gradient=1e-12):
        weight = nn.Parameter(torch.zeros(1, dtype=torch.float64))
        weight.grad = torch.full((1,), gradient * scale, dtype=torch.float64)
        ascend([weight], 1.0, gradient_scale=scale)
        return weight.item()

    assert moved_by(1.0) == pytest.approx(0.5)
    assert moved_by(2.0**20) == pytest.approx(0.5)
    assert moved_by(1.0, gradient=0.0) == 0


def test_what_has_no_gradient_stays():
    net = with_gradients()
    net[0].weight.grad = None
    before = net[0].weight.clone()
    moved = ascend(net.parameters(), 0.1)
    assert torch.equal(net[0].weight, before)
    assert len(moved) == 3
    assert ascend(nn.Linear(2, 2).parameters(), 0.1) == []


LR_GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "lr_schedule.npz")


def test_rho_steps_equal_the_authors_in_any_order():
    rho = StepRho({160: 0.5, 0: 0.05, 180: 0.6, 5: 0.1})
    np.testing.assert_allclose([rho(e) for e in range(200)], LR_GOLDEN["teacher_cifar_ldam_rho_step"], rtol=1e-9)
    assert ConstantRho(0.8)(0) == ConstantRho(0.8)(199) == 0.8


def test_rhos_line_equals_the_authors_in_their_float16_and_stays_at_its_end():
    ours = np.array([LinearRho(0.05, 0.8, 200)(epoch) for epoch in range(200)], dtype=np.float16)
    np.testing.assert_array_equal(ours, LR_GOLDEN["teacher_cifar_ldam_rho_linear_0.05_0.8_float16"])
    assert LinearRho(0.1, 0.5, 5)(4) == LinearRho(0.1, 0.5, 5)(99) == 0.5
    assert LinearRho(0.1, 0.5, 1)(0) == 0.1


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: StepRho({0: 0.1, 5: -0.1}), r"values has -0\.1 from epoch 5 on; type 0 or more"),
        (lambda: StepRho({5: 0.1}), r"no rho for epoch 0: type values=\{0: 0\.05"),
    ],
)
def test_a_bad_rho_is_named(make, sentence):
    with pytest.raises(ConfigError, match=sentence):
        make()
