import pytest
import torch
from timm.loss import BinaryCrossEntropy
from torch.nn import functional as F

from deitlt.errors import ConfigError
from deitlt.losses import BinaryCrossEntropyLoss, DistillationLoss, effective_number_weights
from deitlt.types import TokenLogits

WEIGHTS = effective_number_weights([500, 300, 100, 80, 60, 40, 20, 10, 5, 3], dtype=torch.float64)


@pytest.fixture
def batch():
    """Logits [6, 10], class ids [6], and the targets of a mixed batch [6, 10], whose rows sum to 1."""
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(6, 10, generator=generator, dtype=torch.float64)
    ids = torch.tensor([0, 3, 9, 9, 5, 1])
    hard = F.one_hot(ids, 10).double()
    return logits, ids, 0.7 * hard + 0.3 * hard.flip(0)


def test_it_is_torchs_mean_over_classes_and_images(batch):
    logits, ids, mixed = batch
    expected = F.binary_cross_entropy_with_logits(logits, F.one_hot(ids, 10).double())
    torch.testing.assert_close(BinaryCrossEntropyLoss()(logits, ids), expected, rtol=1e-12, atol=0)
    expected = F.binary_cross_entropy_with_logits(logits, mixed)
    torch.testing.assert_close(BinaryCrossEntropyLoss()(logits, mixed), expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("threshold", [None, 0.0, 0.2, 0.5])
@pytest.mark.parametrize("sum_classes", [False, True])
def test_it_equals_timms(batch, threshold, sum_classes):
    logits, ids, mixed = batch
    timms = BinaryCrossEntropy(smoothing=0.0, target_threshold=threshold, sum_classes=sum_classes)
    loss = BinaryCrossEntropyLoss(threshold=threshold, sum_classes=sum_classes)
    for targets in (ids, mixed):
        torch.testing.assert_close(loss(logits, targets), timms(logits, targets), rtol=1e-12, atol=0)


def test_with_threshold_zero_both_classes_of_a_mixed_image_are_right(batch):
    logits, _, mixed = batch
    expected = F.binary_cross_entropy_with_logits(logits, (mixed > 0).double())
    torch.testing.assert_close(BinaryCrossEntropyLoss(threshold=0.0)(logits, mixed), expected)
    assert BinaryCrossEntropyLoss(threshold=0.5)(logits, mixed) != expected


@pytest.mark.parametrize("threshold", [None, 0.0])
def test_weights_are_those_of_what_is_on_the_image(batch, threshold):
    logits, ids, mixed = batch
    for targets, shares in ((ids, WEIGHTS[ids]), (mixed, mixed @ WEIGHTS)):
        soft = F.one_hot(ids, 10).double() if targets is ids else mixed
        answers = soft if threshold is None else (soft > threshold).double()
        images = -(answers * logits.sigmoid().log() + (1 - answers) * (-logits).sigmoid().log()).mean(1)
        expected = (shares * images).sum() / shares.sum()
        loss = BinaryCrossEntropyLoss(threshold=threshold, class_weights=WEIGHTS)(logits, targets)
        torch.testing.assert_close(loss, expected, rtol=1e-9, atol=0)


@pytest.mark.parametrize("size", [1.0, 7.0])
def test_equal_weights_of_any_size_change_nothing(batch, size):
    logits, _, mixed = batch
    loss = BinaryCrossEntropyLoss()
    weighted = loss.weighted(logits, mixed, torch.full((10,), size))
    torch.testing.assert_close(weighted, loss(logits, mixed), rtol=1e-9, atol=0)


@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("threshold", [None, 0.0])
def test_gradients(batch, weights, threshold):
    logits, ids, mixed = batch
    loss = BinaryCrossEntropyLoss(class_weights=weights, threshold=threshold)
    for targets in (ids, mixed):
        assert torch.autograd.gradcheck(lambda x, y=targets: loss(x, y), logits.clone().requires_grad_())


def test_reweighting_can_be_set_and_taken_away(batch):
    logits, ids, _ = batch
    loss = BinaryCrossEntropyLoss([5] * 10)
    plain = loss(logits, ids)
    loss.reweight(WEIGHTS)
    assert loss(logits, ids) != plain
    assert loss.state_dict() == {}
    loss.reweight(None)
    assert loss(logits, ids) == plain


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_taken_in_float32_and_large_logits_stay_finite(batch, dtype):
    _, ids, _ = batch
    logits = torch.full((6, 10), 90.0, dtype=dtype)
    loss = BinaryCrossEntropyLoss(class_weights=WEIGHTS)(logits, ids)
    assert loss.dtype == torch.float32
    assert loss == pytest.approx(81.0)  # nine of ten answers are wrong by 90


def test_it_is_a_students_cls_loss_as_large_as_cross_entropy_if_classes_are_summed(batch):
    logits, ids, _ = batch
    terms = DistillationLoss("hard", cls_loss=BinaryCrossEntropyLoss(sum_classes=True))
    parts = terms(TokenLogits(logits, logits), ids, ids)
    mean = BinaryCrossEntropyLoss()(logits, ids)
    torch.testing.assert_close(parts.cls, 0.5 * 10 * mean)
    alone = DistillationLoss("none", cls_loss=BinaryCrossEntropyLoss())
    alone.reweight(WEIGHTS)
    weighted = BinaryCrossEntropyLoss(class_weights=WEIGHTS)(logits, ids)
    assert alone(TokenLogits(logits, None), ids).loss == weighted


@pytest.mark.parametrize("threshold", [-0.1, 1.0])
def test_a_threshold_without_sense_is_named(threshold):
    with pytest.raises(ConfigError, match=rf"student\.loss\.threshold={threshold} must be at least 0 and below 1"):
        BinaryCrossEntropyLoss(threshold=threshold)
