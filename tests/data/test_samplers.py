from collections import Counter

import numpy as np
import pytest

from deitlt.data import samplers
from deitlt.data.samplers import (
    EpochSampler,
    EvaluationSampler,
    FullRepeatedAugmentationSampler,
    KeyedSampler,
    RepeatedAugmentationSampler,
    SampleKey,
    ShuffledSampler,
)
from deitlt.errors import ConfigError


@pytest.mark.parametrize("epoch", [0, 1, 2])
@pytest.mark.parametrize(("world", "rank"), [(1, 0), (2, 0), (2, 1)])
def test_repeated_augmentation_equals_the_reference(golden, world, rank, epoch):
    sampler = RepeatedAugmentationSampler(range(1000), world, rank)
    sampler.set_epoch(epoch)
    expected = golden("repeated_aug_sampler")[f"n1000_world{world}_epoch{epoch}_rank{rank}"]
    assert list(sampler) == expected.tolist()
    assert len(sampler) == len(expected)


def test_repeated_augmentation_without_shuffling_or_repeats(golden):
    reference = golden("repeated_aug_sampler")
    plain = RepeatedAugmentationSampler(range(1000), 2, 1, shuffle=False)
    assert list(plain) == reference["n1000_world2_rank1_noshuffle"].tolist()
    once = RepeatedAugmentationSampler(range(1000), 2, 0, num_repeats=1)
    assert list(once) == reference["n1000_world2_rank0_repeats1_epoch0"].tolist()


@pytest.mark.parametrize(("n", "length"), [(255, 0), (256, 85), (1000, 256)])
def test_repeated_augmentation_is_cut_to_blocks(n, length):
    sampler = RepeatedAugmentationSampler(range(n), 3, 2)
    assert len(list(sampler)) == len(sampler) == length


def test_seed_changes_the_order_of_every_epoch():
    def order(seed, epoch):
        sampler = RepeatedAugmentationSampler(range(1000), 1, 0, seed=seed)
        sampler.set_epoch(epoch)
        return tuple(sampler)

    orders = {order(seed, epoch) for seed in (0, 1, 2, 2**32) for epoch in (0, 1, 2)}
    assert len(orders) == 12
    assert order(7, 3) == order(7, 3)


def all_ranks(kind, n, world, **options):
    samplers = [kind(range(n), world, rank, **options) for rank in range(world)]
    shares = [list(sampler) for sampler in samplers]
    assert {len(share) for share in shares} == {len(samplers[0])}
    return Counter(index for share in shares for index in share)


@pytest.mark.parametrize("world", [1, 2, 3, 4])
@pytest.mark.parametrize("n", [1, 2, 10, 300])
def test_full_repeated_augmentation_shows_every_image(n, world):
    times = all_ranks(FullRepeatedAugmentationSampler, n, world)
    assert set(times) == set(range(n))
    assert min(times.values()) >= 3
    assert 0 <= sum(times.values()) - 3 * n < world


@pytest.mark.parametrize("world", [1, 2, 3, 7])
@pytest.mark.parametrize("n", [0, 1, 3, 10])
def test_shuffled_sampler_shows_every_image_once_but_for_filling(n, world):
    times = all_ranks(ShuffledSampler, n, world)
    assert set(times) == set(range(n))
    assert 0 <= sum(times.values()) - n < world


def test_shuffled_sampler_fills_up_from_the_front():
    whole = list(ShuffledSampler(range(10), 1, 0, seed=3))
    last = [list(ShuffledSampler(range(10), 4, rank, seed=3))[-1] for rank in range(4)]
    assert last == [*whole[8:], *whole[:2]]


def test_copies_of_an_image_go_to_different_ranks():
    first, second, third = (list(FullRepeatedAugmentationSampler(range(50), 3, rank)) for rank in range(3))
    assert first == second == third
    assert sorted(first) == list(range(50))


def test_no_repeats_are_refused():
    with pytest.raises(ConfigError, match="num_repeats=0 must be 1 or more"):
        RepeatedAugmentationSampler(range(9), 1, 0, num_repeats=0)


def test_draws_count_repeats_and_know_the_epoch():
    inner = FullRepeatedAugmentationSampler(range(20), 2, 0)
    draws = KeyedSampler(inner)
    draws.set_epoch(5)
    first = list(draws)
    assert [draw.index for draw in first] == list(inner)
    assert {draw.epoch for draw in first} == {5}
    assert len(set(first)) == len(draws) == 30
    assert first == list(draws)
    assert first[0] == SampleKey(5, first[0].index, 0)


@pytest.mark.parametrize("world", [1, 2, 3, 7])
@pytest.mark.parametrize("n", [0, 1, 5, 6])
def test_evaluation_counts_every_image_once(n, world):
    samplers = [EvaluationSampler(range(n), world, rank) for rank in range(world)]
    shares = [list(sampler) for sampler in samplers]
    assert {len(share) for share in shares} == {len(samplers[0])}
    assert sorted(i for share in shares for i, counted in share if counted) == list(range(n))
    assert all(0 <= i < n for share in shares for i, _ in share)


def test_evaluation_deals_images_out_in_turn():
    assert list(EvaluationSampler(range(5), 2, 1)) == [(1, True), (3, True), (0, False)]


@pytest.mark.parametrize(("n", "world", "repeats"), [(7, 2, 1), (10, 3, 3), (5, 4, 2), (1, 3, 2)])
def test_an_order_that_is_dealt_in_parts_is_the_same(n, world, repeats, monkeypatch):
    def dealt():
        shares = [EpochSampler(range(n), world, rank, num_repeats=repeats, seed=1) for rank in range(world)]
        return [list(share) for share in shares]

    whole = dealt()
    monkeypatch.setattr(samplers, "_AT_ONCE", 2)
    assert dealt() == whole
    repeated = np.repeat(EpochSampler(range(n), 1, 0, seed=1)._order(), repeats)
    even = np.resize(repeated, len(whole[0]) * world)  # an order that is too short goes on from its front
    assert whole == [even[rank::world].tolist() for rank in range(world)]
