import numpy as np
import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

from deitlt.config.compose import config_dir
from deitlt.data import ClassBalancedSampler, LongTailDataModule
from deitlt.data.images import ArrayImages
from deitlt.data.samplers import KeyedSampler, image_probabilities
from deitlt.errors import ConfigError

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


def test_images_of_a_class_are_equally_likely(images):
    probabilities = image_probabilities(images.labels, 0.0)
    assert probabilities.sum() == pytest.approx(1)
    for label, count in enumerate(COUNTS):
        assert probabilities[images.labels == label] == pytest.approx(0.25 / count)


def test_a_class_without_images_takes_no_part():
    probabilities = image_probabilities(np.array([0, 0, 2]), 0.0)
    assert probabilities == pytest.approx([0.25, 0.25, 0.5])


@pytest.mark.parametrize("world", [1, 2, 3, 5])
def test_ranks_share_one_epoch_of_as_many_draws_as_images(images, world):
    samplers = [ClassBalancedSampler(images, world, rank, seed=3) for rank in range(world)]
    shares = [list(sampler) for sampler in samplers]
    assert {len(share) for share in shares} == {len(samplers[0])} == {-(-len(images) // world)}
    dealt = [index for row in zip(*shares, strict=True) for index in row]
    whole = list(ClassBalancedSampler(images, 1, 0, seed=3))
    assert dealt[: len(images)] == whole
    assert len(whole) == len(images)


def test_draws_depend_on_seed_and_epoch_alone(images):
    orders = {
        (seed, epoch): tuple(order)
        for seed in (0, 1, 2**31)
        for epoch, order in enumerate(epochs_of(ClassBalancedSampler(images, 1, 0, seed=seed), range(3)))
    }
    assert len(set(orders.values())) == 9
    again = ClassBalancedSampler(images, 1, 0, seed=1)
    assert tuple(next(epochs_of(again, [2]))) == orders[1, 2]


def test_without_shuffling_draws_ascend(images):
    draws = list(ClassBalancedSampler(images, 1, 0, shuffle=False))
    assert draws == sorted(draws)
    assert sorted(draws) == sorted(ClassBalancedSampler(images, 1, 0))


def test_each_showing_of_a_rare_image_is_a_draw_of_its_own(images):
    draws = list(KeyedSampler(ClassBalancedSampler(images, 1, 0)))
    rare = int(np.flatnonzero(images.labels == 3)[0])
    repeats = [draw.repeat for draw in draws if draw.index == rare]
    assert repeats == list(range(len(repeats)))
    assert len(repeats) > 80  # a quarter of 516
    assert len(set(draws)) == len(draws)


@pytest.mark.parametrize("power", [-0.5, 1.5])
def test_a_power_that_cannot_be_is_named(images, power):
    with pytest.raises(ConfigError, match=rf"data\.sampler\.power={power} must be from 0 to 1; type data\.sampler"):
        ClassBalancedSampler(images, 1, 0, power=power)


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
