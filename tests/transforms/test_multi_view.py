import pickle
from functools import partial

import pytest
import torch

from deitlt.data.loading import isolated_rng
from deitlt.errors import ConfigError
from deitlt.transforms import (
    IMAGENET,
    imagenet_transform,
    multi_crop_transform,
    paired_transform,
    simclr_transform,
    student_transform,
)
from deitlt.types import Normalisation

PLAIN = Normalisation((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
STILL = {"flip": 0.0, "rand_augment": None, "erasing": 0.0, "interpolation": "nearest"}


def shown_share(crop):
    """The share of `corners` that a crop shows."""
    pixels = crop[:2].flatten(1) * 255 / 4
    height, width = (pixels.amax(1) - pixels.amin(1) + 1).tolist()
    return height * width / 64**2


def drawn(transform, picture, *key):
    with isolated_rng(*key):
        return transform(picture)


@pytest.mark.parametrize(
    ("transform", "parts"),
    [
        (
            paired_transform(24, IMAGENET, imagenet_transform, simclr_transform, padding=2, flip=0.3),
            [partial(make, 24, IMAGENET, padding=2, flip=0.3) for make in (imagenet_transform, simclr_transform)],
        ),
        (
            multi_crop_transform(32, IMAGENET, 1, 2, 16, (0.1, 0.2), scale=(0.4, 0.9), flip=0.2, erasing=0.5),
            [partial(student_transform, 32, IMAGENET, scale=(0.4, 0.9), flip=0.2, erasing=0.5)]
            + [partial(student_transform, 16, IMAGENET, scale=(0.1, 0.2), flip=0.2, erasing=0.5)] * 2,
        ),
    ],
)
def test_crops_are_those_of_their_transforms_drawn_one_after_the_other_also_in_a_spawned_worker(
    picture, transform, parts
):
    crops = drawn(transform, picture, 4)
    with isolated_rng(4):
        expected = [make()(picture) for make in parts]
    again = drawn(pickle.loads(pickle.dumps(transform)), picture, 4)
    for found, copied, one in zip(crops, again, expected, strict=True):
        assert torch.equal(found, one)
        assert torch.equal(copied, one)


def test_two_crops_of_one_kind_are_drawn_apart(picture):
    first, second = paired_transform(24, IMAGENET, simclr_transform, simclr_transform)(picture)
    assert not torch.equal(first, second)


@pytest.mark.parametrize(("large", "small"), [(2, 3), (1, 0)])
def test_global_crops_come_first_and_local_ones_are_smaller(picture, large, small):
    size = {"local_size": 16} if small else {}  # without local crops, their size does not matter
    crops = multi_crop_transform(32, IMAGENET, global_crops=large, local_crops=small, **size)(picture)
    assert [tuple(crop.shape) for crop in crops] == [(3, 32, 32)] * large + [(3, 16, 16)] * small
    assert all(crop.isfinite().all() for crop in crops)
    assert len({crop.mean().item() for crop in crops}) == large + small


def test_a_global_crop_shows_a_quarter_or_more_and_a_local_one_a_quarter_or_less(corners):
    transform = multi_crop_transform(64, PLAIN, local_size=32, **STILL)
    crops = [transform(corners) for _ in range(60)]
    large, small = ([shown_share(crop) for one in crops for crop in one[part]] for part in (slice(2), slice(2, None)))
    assert 0.2 < min(large) < 0.4
    assert max(large) > 0.8
    assert 0.03 < min(small) < 0.08
    assert 0.2 < max(small) < 0.27


def test_padded_global_crops_show_the_whole_and_local_ones_parts(corners):
    transform = multi_crop_transform(64, PLAIN, local_size=32, crop="padded", padding=2, **STILL)
    crops = [transform(corners) for _ in range(20)]
    assert min(shown_share(crop) for several in crops for crop in several[:2]) > 0.9
    assert max(shown_share(crop) for several in crops for crop in several[2:]) < 0.27


@pytest.mark.parametrize(
    ("size", "options", "sentence"),
    [
        *(
            (size, {"local_size": local}, rf"local_size={local} must be from 8 to {size - 1}, .*local_size={advice}")
            for size, local, advice in [(32, 96, 16), (224, 224, 112), (32, 7, 16), (9, 9, 8)]
        ),
        (8, {"local_size": 8}, r"Images of 8 pixels .* type student\.transforms\.train\.local_crops=0"),
        *(
            (32, {"local_size": 16, option: value}, rf"student\.transforms\.train\.{option}=.*; type ")
            for option, value in [
                *(("local_scale", (0.3, 0.1)), ("scale", (0.0, 1.0))),
            ]
        ),
    ],
)
def test_options_of_several_crops_that_cannot_be_are_named(size, options, sentence):
    with pytest.raises(ConfigError, match=sentence):
        multi_crop_transform(size, IMAGENET, **options)
