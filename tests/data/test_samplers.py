from collections import Counter

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from deitlt.config.compose import config_dir
from deitlt.data import ClassBalancedSampler, LongTailDataModule, samplers
from deitlt.data.images import ArrayImages
from deitlt.data.samplers import (
    EpochSampler,
    EvaluationSampler,
    FullRepeatedAugmentationSampler,
    KeyedSampler,
    RepeatedAugmentationSampler,
    SampleKey,
    ShuffledSampler,
    choose_evenly,
    image_probabilities,
)


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


@pytest.mark.parametrize("kind", [RepeatedAugmentationSampler, ClassBalancedSampler])
def test_seed_and_epoch_alone_decide_the_order(images, kind):
    def order(seed, epoch):
        sampler = kind(images, 1, 0, seed=seed)
        sampler.set_epoch(epoch)
        return tuple(sampler)

    orders = {order(seed, epoch) for seed in (0, 1, 2, 2**31) for epoch in (0, 1, 2)}
    assert len(orders) == 12
    assert order(7, 3) == order(7, 3)


def all_ranks(kind, n, world, **options):
    samplers = [kind(range(n), world, rank, **options) for rank in range(world)]
    shares = [list(sampler) for sampler in samplers]
    assert {len(share) for share in shares} == {len(samplers[0])}
    return Counter(index for share in shares for index in share)


@pytest.mark.parametrize(("kind", "repeats"), [(ShuffledSampler, 1), (FullRepeatedAugmentationSampler, 3)])
@pytest.mark.parametrize("world", [1, 2, 3, 7])
@pytest.mark.parametrize("n", [1, 3, 10, 300])
def test_every_image_is_shown_so_often_but_for_filling(kind, repeats, world, n):
    times = all_ranks(kind, n, world)
    assert set(times) == set(range(n))
    assert min(times.values()) >= repeats
    assert 0 <= sum(times.values()) - repeats * n < world


@pytest.mark.parametrize(("n", "world", "repeats"), [(7, 2, 1), (10, 3, 3), (5, 4, 2), (1, 3, 2)])
def test_copies_of_an_image_go_to_different_ranks_and_an_order_that_is_dealt_in_parts_is_the_same(
    n, world, repeats, monkeypatch
):
    def dealt():
        shares = [EpochSampler(range(n), world, rank, num_repeats=repeats, seed=1) for rank in range(world)]
        return [list(share) for share in shares]

    whole = dealt()
    monkeypatch.setattr(samplers, "_AT_ONCE", 2)
    assert dealt() == whole
    repeated = np.repeat(EpochSampler(range(n), 1, 0, seed=1)._order(), repeats)
    even = np.resize(repeated, len(whole[0]) * world)  # an order that is too short goes on from its front
    assert whole == [even[rank::world].tolist() for rank in range(world)]


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


COUNTS = (400, 90, 25, 1)


@pytest.fixture
def images():
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(4), COUNTS))
    return ArrayImages(np.zeros((len(labels), 1, 1, 3), np.uint8), labels)


def epochs_of(sampler, epochs):
    for epoch in epochs:
        sampler.set_epoch(epoch)
        yield list(sampler)


@pytest.mark.parametrize("power", [0.0, 0.25, 0.5, 1.0])
def test_classes_come_as_often_as_equation_1_says(images, power):
    sampler = ClassBalancedSampler(images, 1, 0, power=power)
    drawn = np.concatenate(list(epochs_of(sampler, range(40))))
    shares = np.bincount(images.labels[drawn], minlength=4) / len(drawn)
    expected = np.array(COUNTS) ** power / (np.array(COUNTS) ** power).sum()
    assert shares == pytest.approx(expected, abs=0.015)


def test_images_of_a_class_are_equally_likely_and_a_class_without_any_takes_no_part():
    assert image_probabilities(np.array([0, 0, 2]), 0.0) == pytest.approx([0.25, 0.25, 0.5])


@pytest.mark.parametrize("world", [1, 2, 3, 5])
def test_ranks_share_one_epoch_of_as_many_draws_as_images(images, world):
    samplers = [ClassBalancedSampler(images, world, rank, seed=3) for rank in range(world)]
    shares = [list(sampler) for sampler in samplers]
    assert {len(share) for share in shares} == {len(samplers[0])} == {-(-len(images) // world)}
    dealt = [index for row in zip(*shares, strict=True) for index in row]
    whole = list(ClassBalancedSampler(images, 1, 0, seed=3))
    assert dealt[: len(images)] == whole
    assert len(whole) == len(images)


@pytest.mark.parametrize(("name", "power"), [("class_balanced", 0.0), ("square_root", 0.5)])
def test_the_choices_are_made_by_the_data_module(name, power):
    group = config_dir() / "data" / "sampler"
    choice = OmegaConf.merge(OmegaConf.load(group / "class_balanced.yaml"), OmegaConf.load(group / f"{name}.yaml"))
    choice.pop("defaults", None)
    assert choice.power == power
    module = LongTailDataModule.from_keys("digits", imbalance_factor=0.05, max_count=60, sampler=instantiate(choice))
    targets = np.concatenate([batch[1].numpy() for batch in module.train_dataloader()])
    expected = np.array(module.info.counts) ** power
    shares = np.bincount(targets, minlength=10) / len(targets)
    assert shares == pytest.approx(expected / expected.sum(), abs=0.06)


@pytest.mark.parametrize(("images", "expected"), [(3, [1, 1, 1]), (5, [2, 2, 1]), (7, [4, 2, 1]), (99, [40, 2, 1])])
def test_rare_classes_are_chosen_whole_before_frequent_ones_have_more(images, expected):
    labels = np.repeat([0, 1, 2], [40, 2, 1])
    chosen = choose_evenly(labels, images, seed=3)
    assert len(set(chosen.tolist())) == len(chosen) == sum(expected)
    assert np.bincount(labels[chosen]).tolist() == expected


def test_batches_are_the_chosen_images_as_evaluation_sees_them_and_move_no_stream():
    datamodule = LongTailDataModule.from_keys("digits", image_size=16, max_count=20, imbalance_factor=0.1)
    source, chosen = datamodule.splits.test, np.array([7, 3, 11])
    torch.manual_seed(5)
    expected = torch.rand(2)
    torch.manual_seed(5)
    batches = list(datamodule.evaluation_batches(source, chosen, batch_size=2))
    assert torch.equal(torch.rand(2), expected)
    assert [len(images) for images, _ in batches] == [2, 1]
    assert torch.equal(batches[1][0][0], datamodule.evaluation_transform()(source[11]))
    assert torch.cat([labels for _, labels in batches]).tolist() == source.labels[chosen].tolist()
