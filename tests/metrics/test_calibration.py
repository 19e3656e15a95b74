import pytest
import torch
import torchmetrics
from torchmetrics.functional.classification import multiclass_calibration_error

from deitlt.metrics import GroupedCalibration, TokenCalibration, logits_by_token
from deitlt.types import IGNORED, TokenLogits

GROUPS = {"head": [0, 1], "mid": [2, 3], "tail": [4, 5, 6]}


def batch(images=2000, classes=7, seed=0):
    """Logits that are right more often than not, and rather too sure."""
    stream = torch.Generator().manual_seed(seed)
    targets = torch.randint(classes, (images,), generator=stream)
    logits = 1.5 * torch.randn(images, classes, generator=stream)
    logits[torch.arange(images), targets] += 1.5
    return logits, targets


def measure(logits, targets, classes=7, groups=GROUPS, **options):
    metric = GroupedCalibration(classes, groups, **options)
    metric.update(logits, targets)
    return {name: float(value) for name, value in metric.compute().items()}


@pytest.mark.parametrize("bins", [15, 4])
def test_errors_equal_those_of_torchmetrics(bins):
    logits, targets = batch()
    found = measure(logits, targets, bins=bins)
    of_group = {"all": torch.ones(2000, dtype=torch.bool)}
    of_group |= {name: torch.isin(targets, torch.tensor(classes)) for name, classes in GROUPS.items()}
    for name, rows in of_group.items():
        expected = multiclass_calibration_error(logits[rows].softmax(1), targets[rows], 7, n_bins=bins)
        assert found[name] == pytest.approx(100 * float(expected), abs=1e-4)
    assert len({round(value, 3) for value in found.values()}) == 4


def test_batches_are_one_whole_and_sums_do_not_grow():
    logits, targets = batch()
    metric = GroupedCalibration(7, GROUPS)
    for rows in torch.randperm(2000, generator=torch.Generator().manual_seed(1)).split(77):
        metric.update(logits[rows], targets[rows])
    assert {name: float(value) for name, value in metric.compute().items()} == measure(logits, targets)
    assert {metric.seen.shape, metric.hits.shape, metric.confidence.shape} == {(7 * 15,)}
    assert metric.state_dict() == {}


def test_sure_and_wrong_is_the_largest_error_and_sure_and_right_none():
    sure = 100 * torch.eye(3)[[0, 1, 0, 0]]
    assert measure(sure, torch.tensor([0, 1, 2, 2]), 3, {"head": [0, 1], "tail": [2]}) == {
        "all": 50.0,
        "head": 0.0,
        "tail": 100.0,
    }


def test_a_confidence_that_fits_the_accuracy_is_no_error():
    even = torch.zeros(4, 4)  # a quarter each, and the first class is chosen: right once in four times
    assert measure(even, torch.tensor([0, 1, 2, 3]), 4, {}) == {"all": 0.0}


def test_what_was_not_seen_is_absent_and_what_is_ignored_counts_nowhere():
    logits, targets = batch()
    kept = targets < 4
    assert set(measure(logits[kept], targets[kept])) == {"all", "head", "mid"}
    assert set(measure(logits, targets, groups={"head": [0], "tail": []})) == {"all", "head"}
    assert measure(logits, targets.where(kept, IGNORED)) == measure(logits[kept], targets[kept])


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_without_an_image_there_is_no_number():
    assert GroupedCalibration(7, GROUPS).compute() == {}
    assert measure(torch.zeros(2, 7), torch.full((2,), IGNORED)) == {}


def test_each_token_has_its_own_error():
    cls, targets = batch()
    logits = TokenLogits(cls, 3 * batch(seed=1)[0])
    calibration = TokenCalibration(7, GROUPS, ("cls", "dist", "avg"))
    calibration.update(logits, targets)
    expected = {token: measure(answers, targets) for token, answers in logits_by_token(logits).items()}
    assert calibration.compute() == expected
    assert len({errors["all"] for errors in expected.values()}) == 3


def test_ranks_sum_to_what_one_would_have_counted_bit_for_bit():
    logits, targets = batch()
    whole, *ranks = (GroupedCalibration(7, GROUPS) for _ in range(4))
    whole.update(logits, targets)
    for rank, rows in zip(ranks, (slice(0, 700), slice(700, 701), slice(701, 2000)), strict=True):
        rank.update(logits[rows], targets[rows])
    for state in ("seen", "hits", "confidence"):
        assert whole._reductions[state] is torchmetrics.utilities.dim_zero_sum
        assert getattr(whole, state).dtype == torch.int64
        assert torch.equal(sum(getattr(rank, state) for rank in ranks), getattr(whole, state))
