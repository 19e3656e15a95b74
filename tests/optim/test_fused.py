import copy
from functools import partial

import pytest
import torch
from timm.optim import create_optimizer_v2
from torch import nn

from deitlt.optim import fused

ADAMW = partial(create_optimizer_v2, opt="adamw", lr=1e-2, betas=(0.9, 0.999), weight_decay=0.05)
SGD = partial(create_optimizer_v2, opt="momentum", lr=0.1, momentum=0.9, weight_decay=2e-4)
OWN = partial(torch.optim.AdamW, lr=1e-2)


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 4)).double()


def trained(factory, steps=12):
    net = network()
    optimizer = factory(net.parameters() if factory.func is torch.optim.AdamW else net)
    stream = torch.Generator().manual_seed(1)
    for step in range(steps):
        for group in optimizer.param_groups:  # a schedule sets the rate at each batch
            group["lr"] = 1e-2 / (1 + step)
        optimizer.zero_grad()
        net(torch.randn(4, 3, 8, 8, generator=stream, dtype=torch.float64)).square().mean().backward()
        optimizer.step()
    return nn.utils.parameters_to_vector(net.parameters()).detach(), optimizer


@pytest.mark.parametrize("factory", [ADAMW, SGD, OWN])
def test_the_fused_update_is_the_plain_one(factory):
    expected, plain = trained(factory)
    found, optimizer = trained(fused(factory))
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    assert all(group["fused"] for group in optimizer.param_groups)
    assert not any(group["fused"] for group in plain.param_groups)
    assert not torch.equal(found, nn.utils.parameters_to_vector(network().parameters()))


def test_weight_decay_meets_the_same_weights():
    net = network()
    decays = [[(g["weight_decay"], len(g["params"])) for g in make(net).param_groups] for make in (ADAMW, fused(ADAMW))]
    assert decays[0] == decays[1] == [(0.0, 4), (0.05, 2)]


def test_an_optimiser_without_a_fused_form_stays():
    lamb = partial(create_optimizer_v2, opt="lamb", lr=1e-3)
    assert fused(lamb) is lamb
    assert len(fused(lamb)(network()).param_groups) > 0
    assert fused(torch.optim.AdamW) is torch.optim.AdamW


@pytest.mark.parametrize("word", ["fused", "foreach"])
def test_what_was_chosen_stays(word):
    chosen = partial(ADAMW, **{word: False})
    assert fused(chosen) is chosen


@pytest.mark.parametrize(("first", "second"), [(ADAMW, fused(ADAMW)), (fused(ADAMW), ADAMW), (SGD, fused(SGD))])
def test_either_goes_on_with_the_others_state(first, second):
    def updated(optimizer, net, steps):
        stream = torch.Generator().manual_seed(2)
        for _ in range(steps):
            optimizer.zero_grad()
            net(torch.randn(4, 3, 8, 8, generator=stream, dtype=torch.float64)).square().mean().backward()
            optimizer.step()
        return nn.utils.parameters_to_vector(net.parameters()).detach()

    weights, before = trained(first)

    def go_on(factory):
        net = network()
        nn.utils.vector_to_parameters(weights.clone(), net.parameters())
        optimizer = factory(net)
        optimizer.load_state_dict(copy.deepcopy(before.state_dict()))
        return updated(optimizer, net, 3)

    torch.testing.assert_close(go_on(second), go_on(first), rtol=1e-9, atol=1e-9)
    assert not torch.equal(go_on(first), weights)
