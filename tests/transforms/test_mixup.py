import random

import numpy as np
import pytest
import torch

from deitlt.errors import ConfigError
from deitlt.transforms import Mixup

CLASSES = 10


def constant_images(values, size=16):
    """Image i is values[i] everywhere."""
    return torch.tensor(values).view(-1, 1, 1, 1).expand(-1, 3, size, size).clone()


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize("batch", [2, 7, 8])
@pytest.mark.parametrize("kind", [{"mixup": 0.8, "cutmix": 0.0}, {"mixup": 0.0, "cutmix": 1.0}, {}])
def test_targets_are_distributions(batch, kind):
    mixing, stream = Mixup(CLASSES, **kind), rng()
    for _ in range(20):
        images, targets, _ = mixing(torch.rand(batch, 3, 8, 8), torch.arange(batch) % CLASSES, stream)
        assert images.shape == (batch, 3, 8, 8)
        assert targets.shape == (batch, CLASSES)
        torch.testing.assert_close(targets.sum(1), torch.ones(batch))
        assert (targets > 0).all()


@pytest.mark.parametrize("batch", [4, 5])
@pytest.mark.parametrize("kind", [{"cutmix": 0.0}, {"mixup": 0.0}])
def test_an_images_share_of_the_pixels_is_its_share_of_the_target(batch, kind):
    values = [float(i + 1) for i in range(batch)]
    mixing, stream = Mixup(CLASSES, smoothing=0.0, **kind), rng()
    shares = []
    for _ in range(50):
        images, targets, _ = mixing(constant_images(values), torch.arange(batch), stream)
        for i in range(batch):
            # The mean pixel of an image is the mean of the constants, weighted by their shares.
            expected = (targets[i, :batch] * torch.tensor(values)).sum()
            torch.testing.assert_close(images[i].mean(), expected)
        shares.append(float(targets[0, 0]))
    assert len(set(shares)) > 30
    assert 0.3 < np.mean(shares) < 0.8


def test_mixup_blends_with_the_mirrored_image_in_one_proportion():
    images, targets = torch.rand(6, 3, 8, 8), torch.arange(6)
    mixed, soft, _ = Mixup(CLASSES, cutmix=0.0, smoothing=0.0)(images, targets, rng(1))
    kept = soft[0, 0]
    assert 0 < kept < 1
    torch.testing.assert_close(mixed, kept * images + (1 - kept) * images.flip(0))
    torch.testing.assert_close(soft.diagonal()[:6], kept.expand(6))


def test_cutmix_pastes_one_rectangle_for_the_batch():
    images, targets = torch.rand(6, 3, 12, 16), torch.arange(6)
    mixed, soft, _ = Mixup(CLASSES, mixup=0.0, smoothing=0.0)(images, targets, rng(3))
    pasted = (mixed == images.flip(0)).all(1)
    assert torch.equal(pasted, pasted[:1].expand_as(pasted))
    rows, columns = pasted[0].any(1).nonzero(), pasted[0].any(0).nonzero()
    area = (rows.max() - rows.min() + 1) * (columns.max() - columns.min() + 1)
    assert area == pasted[0].sum() > 0
    assert torch.equal(mixed.where(~pasted[:, None], images), images)
    torch.testing.assert_close(soft[0, 5], area / (12 * 16))


def test_the_middle_of_an_odd_batch_meets_itself():
    images, targets = torch.rand(5, 3, 8, 8), torch.arange(5)
    mixed, soft, _ = Mixup(CLASSES, smoothing=0.0)(images, targets, rng(2))
    torch.testing.assert_close(mixed[2], images[2])
    torch.testing.assert_close(soft[2, 2], torch.tensor(1.0))


def test_images_that_came_in_are_not_changed():
    images = torch.rand(4, 3, 8, 8)
    for kind in ({"mixup": 0.0}, {"cutmix": 0.0}):
        before = images.clone()
        mixed, *_ = Mixup(CLASSES, **kind)(images, torch.arange(4), rng(3))
        assert torch.equal(images, before)
        assert not torch.equal(mixed, before)


def test_draws_come_from_the_generator_alone():
    def draw():
        return Mixup(CLASSES)(constant_images([0.0, 1.0, 2.0, 3.0]), torch.arange(4), rng(7))

    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    before = random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state()
    first = draw()
    assert random.getstate() == before[0]
    assert np.array_equal(np.random.get_state()[1], before[1])
    assert torch.equal(torch.get_rng_state(), before[2])
    random.seed(2), np.random.seed(2), torch.manual_seed(2)
    again = draw()
    assert torch.equal(first.images, again.images)
    assert torch.equal(first.targets, again.targets)


@pytest.mark.parametrize("off", [{"probability": 0.0}, {"mixup": 0.0, "cutmix": 0.0}])
def test_without_mixing_targets_are_only_smoothed(off):
    images, targets = torch.rand(4, 3, 8, 8), torch.tensor([0, 3, 3, 9])
    same, soft, _ = Mixup(CLASSES, smoothing=0.1, **off)(images, targets, rng())
    assert torch.equal(same, images)
    torch.testing.assert_close(soft[0], torch.tensor([0.91] + [0.01] * 9))
    assert soft.argmax(1).tolist() == targets.tolist()


def test_smoothing_is_spread_over_all_classes_and_mixed_like_the_truth():
    _, soft, _ = Mixup(CLASSES, smoothing=0.2)(torch.rand(2, 3, 8, 8), torch.tensor([1, 4]), rng(1))
    _, hard, _ = Mixup(CLASSES, smoothing=0.0)(torch.rand(2, 3, 8, 8), torch.tensor([1, 4]), rng(1))
    torch.testing.assert_close(soft, 0.8 * hard + 0.02)


def test_switch_and_probability_over_many_draws():
    def kinds(n=1500, **options):
        mixing, stream = Mixup(CLASSES, smoothing=0.0, **options), rng(5)
        counts = {"none": 0, "mixup": 0, "cutmix": 0}
        for _ in range(n):
            mixed, *_ = mixing(constant_images([0.0, 1.0], size=32), torch.arange(2), stream)
            values = mixed[0].unique()
            blended = len(values) == 1 and 0 < values[0] < 1
            counts["mixup" if blended else "cutmix" if len(values) == 2 else "none"] += 1
        return {kind: count / n for kind, count in counts.items()}

    even = kinds()
    assert even["mixup"] == pytest.approx(0.5, abs=0.05)
    assert even["cutmix"] == pytest.approx(0.5, abs=0.08)  # tiny and whole rectangles leave one value
    rare = kinds(switch=0.9, probability=0.5)
    assert rare["mixup"] == pytest.approx(0.05, abs=0.03)
    assert rare["none"] == pytest.approx(0.5, abs=0.08)


def test_proportions_follow_the_beta_distribution():
    mixing, stream = Mixup(CLASSES, mixup=0.8, cutmix=0.0, smoothing=0.0), rng(6)
    kept = [float(mixing(torch.rand(2, 3, 2, 2), torch.arange(2), stream)[1][0, 0]) for _ in range(3000)]
    assert np.mean(kept) == pytest.approx(0.5, abs=0.02)
    assert np.var(kept) == pytest.approx(1 / (4 * (2 * 0.8 + 1)), abs=0.01)


def test_cutmix_at_the_border_counts_what_was_really_pasted():
    mixing, stream = Mixup(CLASSES, mixup=0.0, smoothing=0.0), rng(8)
    for _ in range(200):
        mixed, targets, _ = mixing(constant_images([0.0, 1.0], size=9), torch.arange(2), stream)
        torch.testing.assert_close(mixed[0].mean(), targets[0, 1])


@pytest.mark.parametrize("name", ["switch", "probability", "smoothing"])
@pytest.mark.parametrize("value", [-0.1, 1.5])
def test_what_is_no_share_is_named(name, value):
    with pytest.raises(ConfigError, match=rf"student\.transforms\.mixing\.{name}={value} is no share"):
        Mixup(CLASSES, **{name: value})


@pytest.mark.parametrize("name", ["mixup", "cutmix"])
def test_a_negative_parameter_is_named(name):
    with pytest.raises(ConfigError, match=rf"{name}=-1"):
        Mixup(CLASSES, **{name: -1})
