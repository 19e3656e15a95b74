"""What all classification losses share, and the four that adjust logits."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from deitlt.errors import ConfigError, DataError
from deitlt.losses import (
    BalancedSoftmaxLoss,
    CrossEntropyLoss,
    LDAMLoss,
    LogitAdjustedLoss,
    VSLoss,
    effective_number_weights,
    weighted_cross_entropy,
)
from deitlt.losses.classification import ldam_margins, log_prior, vs_scales

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "losses.npz")
COUNTS = GOLDEN["in_cls_num_list"].tolist()
LOSSES = [CrossEntropyLoss, LDAMLoss, VSLoss, BalancedSoftmaxLoss, LogitAdjustedLoss]


def golden(name):
    return torch.from_numpy(GOLDEN[name])


def a_batch(dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(6, 10, generator=generator, dtype=dtype), torch.tensor([0, 3, 9, 9, 5, 1])


def by_hand(logits, targets, weights):
    terms = -logits.log_softmax(dim=1)[torch.arange(len(targets)), targets]
    picked = torch.ones_like(terms) if weights is None else weights[targets]
    return (terms * picked).sum() / picked.sum()


def assert_golden(loss_of, name, input_name, rtol=1e-6):
    logits = golden(f"in_{input_name}").requires_grad_()
    loss = loss_of(logits, golden("in_labels"))
    loss.backward()
    torch.testing.assert_close(loss.detach(), golden(f"{name}__loss"), rtol=rtol, atol=0)
    torch.testing.assert_close(logits.grad, golden(f"{name}__grad_{input_name}"), rtol=rtol, atol=1e-9)


@pytest.mark.parametrize("weighted", [False, True])
def test_ldam_equals_the_authors(weighted):
    loss = LDAMLoss(COUNTS, max_margin=0.5, scale=30.0)
    loss.reweight(golden("in_weights64") if weighted else None)
    assert_golden(loss, f"ldam_m0.5_s30_{'w' if weighted else 'now'}_f64", "cos_logits")


def test_vs_equals_the_authors():
    assert_golden(VSLoss(COUNTS, gamma=0.3, tau=1.0), "vs_g0.3_t1_now_f64", "logits")


def test_constants_equal_the_authors():
    counts = torch.tensor(COUNTS, dtype=torch.float64)
    torch.testing.assert_close(ldam_margins(counts), golden("ldam_margins64"), rtol=1e-9, atol=0)
    torch.testing.assert_close(vs_scales(counts), golden("vs_Delta64"), rtol=1e-9, atol=0)
    torch.testing.assert_close(log_prior(counts), golden("vs_iota64"), rtol=1e-9, atol=0)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    ("loss", "shift"),
    [
        (CrossEntropyLoss(), lambda n: 0 * n),
        (BalancedSoftmaxLoss(COUNTS), lambda n: n.log()),
        (LogitAdjustedLoss(COUNTS), lambda n: (n / n.sum()).log()),
        (LogitAdjustedLoss(COUNTS, tau=0.4), lambda n: 0.4 * (n / n.sum()).log()),
        (VSLoss(COUNTS, gamma=0.0, tau=1.5), lambda n: 1.5 * (n / n.sum()).log()),
    ],
)
def test_shifted_losses_equal_their_definition(loss, shift, weighted):
    logits, targets = a_batch()
    counts = torch.tensor(COUNTS, dtype=torch.float64)
    weights = golden("in_weights64") if weighted else None
    loss.reweight(weights)
    expected = by_hand(logits + shift(counts), targets, weights)
    torch.testing.assert_close(loss(logits, targets), expected, rtol=1e-9, atol=0)


def test_balanced_softmax_weighs_the_exponentials_by_counts():
    logits, targets = a_batch()
    counts = torch.tensor(COUNTS, dtype=torch.float64)
    shares = counts * logits.exp() / (counts * logits.exp()).sum(dim=1, keepdim=True)
    expected = -shares[torch.arange(6), targets].log().mean()
    torch.testing.assert_close(BalancedSoftmaxLoss(COUNTS)(logits, targets), expected, rtol=1e-9, atol=0)


@pytest.mark.parametrize("make", LOSSES)
@pytest.mark.parametrize("weighted", [False, True])
def test_class_ids_and_one_hot_rows_agree(make, weighted):
    logits, targets = a_batch()
    weights = effective_number_weights(COUNTS, dtype=torch.float64) if weighted else None
    loss = make(COUNTS, class_weights=weights)
    one_hot = F.one_hot(targets, 10).double()
    torch.testing.assert_close(loss(logits, one_hot), loss(logits, targets), rtol=1e-12, atol=0)


@pytest.mark.parametrize("make", LOSSES)
def test_gradients_of_mixed_targets(make):
    logits, targets = a_batch()
    mixed = 0.7 * F.one_hot(targets, 10).double() + 0.3 * F.one_hot(targets.flip(0), 10)
    loss = make(COUNTS, class_weights=golden("in_weights64"))
    assert torch.autograd.gradcheck(lambda x: loss(x, mixed), logits.requires_grad_())


def test_ldam_takes_the_targets_share_of_each_margin():
    logits, targets = a_batch()
    mixed = 0.25 * F.one_hot(targets, 10).double() + 0.75 * F.one_hot(targets.flip(0), 10)
    margins = golden("ldam_margins64")
    expected = F.cross_entropy(30 * (logits - mixed * margins), mixed)
    torch.testing.assert_close(LDAMLoss(COUNTS)(logits, mixed), expected, rtol=1e-9, atol=0)


def test_the_weighted_mean_of_probabilities_divides_by_their_weights():
    logits, _ = a_batch()
    probabilities = torch.rand(6, 10, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    weights = golden("in_weights64")
    share = probabilities * weights
    expected = -(share * logits.log_softmax(1)).sum() / share.sum()
    loss = weighted_cross_entropy(logits, probabilities, weights)
    torch.testing.assert_close(loss, expected, rtol=1e-9, atol=0)


def test_the_size_of_all_weights_does_not_matter():
    logits, targets = a_batch()
    weights = golden("in_weights64")
    torch.testing.assert_close(
        weighted_cross_entropy(logits, targets, 5 * weights), weighted_cross_entropy(logits, targets, weights)
    )


@pytest.mark.parametrize("make", LOSSES)
def test_reweighting_can_be_set_and_taken_away(make):
    logits, targets = a_batch()
    loss = make(COUNTS)
    plain = loss(logits, targets)
    loss.reweight(golden("in_weights64"))
    assert loss(logits, targets) != plain
    loss.reweight(None)
    assert loss(logits, targets) == plain


@pytest.mark.parametrize("make", LOSSES)
def test_weights_follow_the_loss_and_stay_out_of_checkpoints(make):
    loss = make(COUNTS, class_weights=torch.ones(10))
    assert loss.state_dict() == {}
    moved = loss.to("meta")
    assert moved.class_weights.device.type == "meta"
    loss.reweight(torch.ones(10))
    assert loss.state_dict() == {}


@pytest.mark.parametrize("make", LOSSES)
@pytest.mark.parametrize("weights_dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("dtype", "result"),
    [(torch.float16, torch.float32), (torch.bfloat16, torch.float32), (torch.float64, torch.float64)],
)
def test_weights_and_targets_take_the_logits_type(make, weights_dtype, dtype, result):
    logits, targets = a_batch()
    loss = make(COUNTS, class_weights=golden("in_weights64").to(weights_dtype))
    value = loss(logits.to(dtype), F.one_hot(targets, 10).float())
    assert value.dtype == result
    exact = make(COUNTS, class_weights=golden("in_weights64"))(logits.to(dtype).double(), targets)
    torch.testing.assert_close(value.double(), exact, rtol=1e-5, atol=0)


def test_counts_stay_exact_when_the_loss_is_cast():
    logits, targets = a_batch()
    expected = LDAMLoss([123_457, 11] + [3] * 8)(logits, targets)
    cast = LDAMLoss([123_457, 11] + [3] * 8).bfloat16().double()
    assert cast(logits, targets) == expected


def test_a_higher_margin_costs_more():
    logits, targets = a_batch()
    cosines = logits.tanh()
    losses = [LDAMLoss(COUNTS, max_margin=margin)(cosines, targets).item() for margin in (0.0, 0.3, 0.5)]
    assert losses == sorted(losses)
    assert losses[0] == pytest.approx(F.cross_entropy(30 * cosines, targets).item())


@pytest.mark.parametrize("make", [LDAMLoss, VSLoss, BalancedSoftmaxLoss, LogitAdjustedLoss])
def test_an_empty_class_is_named(make):
    with pytest.raises(DataError, match="class 2 has 0 training images"):
        make([5, 4, 0])


def test_cross_entropy_needs_no_counts():
    logits, targets = a_batch()
    assert CrossEntropyLoss()(logits, targets) == F.cross_entropy(logits, targets)


@pytest.mark.parametrize(("key", "value"), [("max_margin", -0.1), ("scale", 0.0)])
def test_ldam_refuses_values_without_sense(key, value):
    with pytest.raises(ConfigError, match=f"{key}={value}"):
        LDAMLoss(COUNTS, **{key: value})
