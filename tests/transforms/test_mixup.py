import random

import numpy as np
import pytest
import torch

from deitlt.transforms import Mixup, attention_targets
from deitlt.types import Pasted

CLASSES = 10


def constant_images(values, size=16):
    """Image i is values[i] everywhere."""
    return torch.tensor(values).view(-1, 1, 1, 1).expand(-1, 3, size, size).clone()


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize("batch", [2, 7, 8])
@pytest.mark.parametrize("kind", [{"mixup": 0.8, "cutmix": 0.0}, {"mixup": 0.0, "cutmix": 1.0}, {}])
def test_targets_are_distributions_and_the_images_that_came_in_are_not_changed(batch, kind):
    mixing, stream = Mixup(CLASSES, **kind), rng()
    for _ in range(20):
        came = torch.rand(batch, 3, 8, 8)
        before = came.clone()
        images, targets, _ = mixing(came, torch.arange(batch) % CLASSES, stream)
        assert torch.equal(came, before)
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
        if batch == 5:  # the middle of an odd batch meets itself
            assert targets[2, 2] == pytest.approx(1.0)
        for i in range(batch):
            # The mean pixel of an image is the mean of the constants, weighted by their shares.
            expected = (targets[i, :batch] * torch.tensor(values)).sum()
            torch.testing.assert_close(images[i].mean(), expected)
        shares.append(float(targets[0, 0]))
    assert len(set(shares)) > 30
    assert 0.3 < np.mean(shares) < 0.8


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


# TransMix


def pasted(size=8):
    """The right half is the partner's."""
    mask = torch.zeros(size, size, dtype=torch.bool)
    mask[:, size // 2 :] = True
    return Pasted(mask, torch.eye(4)[[0, 1]], torch.eye(4)[[1, 0]])


def test_each_image_has_the_proportion_of_its_own_attention():
    attention = torch.zeros(2, 2, 2)
    attention[0, :, 0] = 0.5  # looks at its own half alone
    attention[1, 0] = torch.tensor([0.25, 0.75])
    targets = attention_targets(attention.flatten(1), pasted())
    torch.testing.assert_close(targets[0], torch.tensor([1.0, 0, 0, 0]))
    torch.testing.assert_close(targets[1], torch.tensor([0.75, 0.25, 0, 0]))


def test_the_mask_is_brought_to_the_patches_by_nearest_neighbour():
    mask = torch.zeros(8, 8, dtype=torch.bool)
    mask[0, 0] = True  # of the first patch's 16 pixels, the one that stands for it
    content = Pasted(mask, torch.eye(2)[[0]], torch.eye(2)[[1]])
    targets = attention_targets(torch.tensor([[0.4, 0.3, 0.2, 0.1]]), content)
    torch.testing.assert_close(targets, torch.tensor([[0.6, 0.4]]))


@pytest.mark.parametrize(
    ("options", "handed_on"),
    [
        ({"mixup": 0.0, "attention": True}, True),
        ({"cutmix": 0.0, "attention": True}, False),
        ({"mixup": 0.0}, False),
    ],
)
def test_mixing_hands_on_where_cutmix_pasted_and_only_then(options, handed_on):
    images, targets = torch.rand(4, 3, 8, 8), torch.arange(4)
    for seed in range(5):
        stream = np.random.default_rng(seed)
        mixed = Mixup(4, smoothing=0.0, **options)(images, targets, stream)
        assert (mixed.pasted is not None) == handed_on
        if mixed.pasted is not None:
            expected = torch.where(mixed.pasted.mask, images.flip(0), images)
            assert torch.equal(mixed.images, expected)
            share = mixed.pasted.mask.float().mean()
            blended = (1 - share) * mixed.pasted.own + share * mixed.pasted.partner
            torch.testing.assert_close(mixed.targets, blended)
