from pathlib import Path

import numpy as np
import pytest
import torch
from timm.loss import BinaryCrossEntropy
from torch.nn import functional as F

from deitlt.errors import ConfigError, DataError
from deitlt.losses import (
    BalancedSoftmaxLoss,
    BinaryCrossEntropyLoss,
    CrossEntropyLoss,
    LDAMLoss,
    LogitAdjustedLoss,
    VSLoss,
    effective_number_weights,
    weighted_cross_entropy,
)
from deitlt.losses.classification import ldam_margins, log_prior, vs_scales

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "losses.npz")
GOLDEN_WEIGHTS = np.load(Path(__file__).parents[1] / "golden" / "class_weights.npz")
COUNTS = GOLDEN["in_cls_num_list"].tolist()
COUNTED = [LDAMLoss, VSLoss, BalancedSoftmaxLoss, LogitAdjustedLoss]
CROSS_ENTROPIES = [CrossEntropyLoss, *COUNTED]
LOSSES = [BinaryCrossEntropyLoss, *CROSS_ENTROPIES]
TARGETS = torch.tensor([0, 3, 9, 9, 5, 1])
MIXED = 0.7 * F.one_hot(TARGETS, 10).double() + 0.3 * F.one_hot(TARGETS.flip(0), 10)


def golden(name):
    return torch.from_numpy(GOLDEN[name])


WEIGHTS = golden("in_weights64")


def logits():
    return 3 * torch.randn(6, 10, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def assert_exact(found, expected, rtol=1e-9):
    torch.testing.assert_close(found, expected, rtol=rtol, atol=0)


def assert_golden(loss_of, name, input_name, rtol=1e-6):
    inputs = golden(f"in_{input_name}").requires_grad_()
    loss = loss_of(inputs, golden("in_labels"))
    loss.backward()
    assert_exact(loss.detach(), golden(f"{name}__loss"), rtol)
    torch.testing.assert_close(inputs.grad, golden(f"{name}__grad_{input_name}"), rtol=rtol, atol=1e-9)


@pytest.mark.parametrize("weighted", [False, True])
def test_ldam_equals_the_authors(weighted):
    loss = LDAMLoss(COUNTS, max_margin=0.5, scale=30.0)
    loss.reweight(WEIGHTS if weighted else None)
    assert_golden(loss, f"ldam_m0.5_s30_{'w' if weighted else 'now'}_f64", "cos_logits")


def test_vs_equals_the_authors():
    assert_golden(VSLoss(COUNTS, gamma=0.3, tau=1.0), "vs_g0.3_t1_now_f64", "logits")


def test_constants_equal_the_authors():
    counts = torch.tensor(COUNTS, dtype=torch.float64)
    assert_exact(ldam_margins(counts), golden("ldam_margins64"))
    assert_exact(vs_scales(counts), golden("vs_Delta64"))
    assert_exact(log_prior(counts), golden("vs_iota64"))


@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize(
    ("loss", "shift"),
    [
        (CrossEntropyLoss(), lambda n: 0 * n),
        (BalancedSoftmaxLoss(COUNTS), lambda n: n.log()),
        (LogitAdjustedLoss(COUNTS, tau=0.4), lambda n: 0.4 * (n / n.sum()).log()),
        (VSLoss(COUNTS, gamma=0.0, tau=1.5), lambda n: 1.5 * (n / n.sum()).log()),
    ],
)
def test_shifted_losses_equal_their_definition(loss, shift, weights):
    loss.reweight(weights)
    shifted = logits() + shift(torch.tensor(COUNTS, dtype=torch.float64))
    terms = -shifted.log_softmax(dim=1)[torch.arange(6), TARGETS]
    picked = torch.ones(6).double() if weights is None else weights[TARGETS]
    assert_exact(loss(logits(), TARGETS), (terms * picked).sum() / picked.sum())


def test_ldam_takes_the_targets_share_of_each_margin():
    expected = F.cross_entropy(30 * (logits() - MIXED * golden("ldam_margins64")), MIXED)
    assert_exact(LDAMLoss(COUNTS)(logits(), MIXED), expected)


@pytest.mark.parametrize("size", [1.0, 5.0])
def test_the_weighted_mean_of_probabilities_divides_by_their_weights(size):
    share = MIXED * WEIGHTS
    expected = -(share * logits().log_softmax(1)).sum() / share.sum()
    assert_exact(weighted_cross_entropy(logits(), MIXED, size * WEIGHTS), expected)


def test_torchs_weighted_loss_of_probabilities_is_ours_times_the_mean_weight_of_the_targets():
    """Which leaves a class id and its one-hot row with different losses; ours are equal (docs/differences.md)."""
    for targets in (MIXED, F.one_hot(TARGETS, 10).double()):
        ours, theirs = weighted_cross_entropy(logits(), targets, WEIGHTS), F.cross_entropy(logits(), targets, WEIGHTS)
        assert_exact(ours * (targets @ WEIGHTS).mean(), theirs)
    assert_exact(ours, F.cross_entropy(logits(), TARGETS, WEIGHTS))


@pytest.mark.parametrize("threshold", [None, 0.0, 0.2, 0.5])
@pytest.mark.parametrize("sum_classes", [False, True])
def test_binary_cross_entropy_equals_timms(threshold, sum_classes):
    timms = BinaryCrossEntropy(smoothing=0.0, target_threshold=threshold, sum_classes=sum_classes)
    loss = BinaryCrossEntropyLoss(threshold=threshold, sum_classes=sum_classes)
    for targets in (TARGETS, MIXED):
        assert_exact(loss(logits(), targets), timms(logits(), targets), rtol=1e-12)


@pytest.mark.parametrize("threshold", [None, 0.0])
def test_binary_weights_weigh_images_by_their_targets(threshold):
    for targets, soft in ((TARGETS, F.one_hot(TARGETS, 10).double()), (MIXED, MIXED)):
        shares = soft @ WEIGHTS
        binary = soft if threshold is None else (soft > threshold).double()
        images = -(binary * logits().sigmoid().log() + (1 - binary) * (-logits()).sigmoid().log()).mean(1)
        loss = BinaryCrossEntropyLoss(threshold=threshold, class_weights=WEIGHTS)
        assert_exact(loss(logits(), targets), (shares * images).sum() / shares.sum())
        assert_exact(loss.weighted(logits(), targets, torch.full((10,), 7.0)), images.mean())


@pytest.mark.parametrize("make", LOSSES)
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_class_ids_and_one_hot_rows_agree_and_gradients_of_mixed_targets_are_right(make, weights):
    loss = make(COUNTS, class_weights=weights)
    assert_exact(loss(logits(), F.one_hot(TARGETS, 10).double()), loss(logits(), TARGETS), rtol=1e-12)
    assert torch.autograd.gradcheck(lambda x: loss(x, MIXED), logits().requires_grad_())


@pytest.mark.parametrize("make", LOSSES)
def test_weights_are_set_and_taken_away_follow_the_loss_and_stay_out_of_checkpoints(make):
    loss = make(COUNTS)
    plain = loss(logits(), TARGETS)
    loss.reweight(WEIGHTS)
    assert loss(logits(), TARGETS) != plain
    assert loss.state_dict() == {}
    assert loss.to("meta").class_weights.is_meta
    loss = make(COUNTS, class_weights=WEIGHTS)
    loss.reweight(None)
    assert loss(logits(), TARGETS) == plain


@pytest.mark.parametrize("make", LOSSES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_half_precision_is_computed_in_float32(make, dtype):
    coarse = logits().to(dtype)
    value = make(COUNTS, class_weights=WEIGHTS.float())(coarse, F.one_hot(TARGETS, 10).float())
    assert value.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert_exact(value.double(), make(COUNTS, class_weights=WEIGHTS)(coarse.double(), TARGETS), rtol=1e-5)


def test_counts_stay_exact_when_the_loss_is_cast():
    counts = [123_457, 11] + [3] * 8
    assert LDAMLoss(counts).bfloat16().double()(logits(), TARGETS) == LDAMLoss(counts)(logits(), TARGETS)


@pytest.mark.parametrize("make", [*COUNTED, effective_number_weights])
def test_an_empty_class_is_named(make):
    with pytest.raises(DataError, match="class 2 has 0 training images"):
        make([5, 4, 0])


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: BinaryCrossEntropyLoss(threshold=1.0), "student.loss.threshold=1.0 must be at least 0 and below 1"),
        (lambda: effective_number_weights([1, 2], 1.0), "beta=1.0 must be .*: type beta=0.9999"),
        (lambda: effective_number_weights([1, 2], float("nan")), "beta=nan must be .*: type beta=0.9999"),
    ],
)
def test_values_out_of_range_are_named(make, sentence):
    with pytest.raises(ConfigError, match=sentence):
        make()


@pytest.mark.parametrize("name", ["c10_0.01", "c100_0.01"])
@pytest.mark.parametrize(("key", "beta"), [("w64", 0.9999), ("w64_beta0", 0.0), ("w64_beta999", 0.999)])
def test_effective_number_weights_equal_the_authors_and_sum_to_the_classes(name, key, beta):
    counts = GOLDEN_WEIGHTS[f"{name}_counts"]
    weights = effective_number_weights(counts, beta, dtype=torch.float64)
    np.testing.assert_allclose(weights.numpy(), GOLDEN_WEIGHTS[f"{name}_{key}"], rtol=1e-9)
    assert weights.sum().item() == pytest.approx(len(counts))
    assert effective_number_weights(counts.tolist()).dtype == torch.float32


def test_imagenet_lt_weights_of_sorted_classes():
    counts = np.sort(GOLDEN_WEIGHTS["imagenetlt_counts_by_original_label"])[::-1].copy()
    weights = effective_number_weights(counts, dtype=torch.float64)
    np.testing.assert_allclose(weights.numpy(), GOLDEN_WEIGHTS["imagenetlt_w64_mapped"], rtol=1e-9)
