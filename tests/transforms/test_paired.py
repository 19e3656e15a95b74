import pickle

import pytest
import torch
from PIL import Image

from deitlt.data.loading import isolated_rng
from deitlt.errors import ConfigError
from deitlt.transforms import IMAGENET, auto_augment_transform, imagenet_transform, paired_transform, simclr_transform
from deitlt.types import Normalisation

PLAIN = Normalisation((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def test_the_first_view_comes_first_and_the_second_goes_on_in_the_same_stream(picture):
    pair = paired_transform(24, IMAGENET, imagenet_transform, simclr_transform, padding=2, flip=0.3)
    with isolated_rng(1, 2):
        first, second = pair(picture)
    with isolated_rng(1, 2):
        assert torch.equal(first, imagenet_transform(24, IMAGENET, padding=2, flip=0.3)(picture))
        assert torch.equal(second, simclr_transform(24, IMAGENET, padding=2, flip=0.3)(picture))


def test_two_views_of_one_kind_are_drawn_apart(picture):
    first, second = paired_transform(24, IMAGENET, simclr_transform, simclr_transform)(picture)
    assert not torch.equal(first, second)


def test_padding_and_flip_are_those_of_both():
    asked = []

    def make(image_size, normalisation, *, padding, flip):
        asked.append((image_size, normalisation, padding, flip))
        return lambda picture: torch.zeros(3)

    paired_transform(16, PLAIN, make, make, padding=2, flip=0.0)
    assert asked == [(16, PLAIN, 2, 0.0)] * 2


def test_a_spawned_worker_can_have_it(picture):
    pair = paired_transform(16, IMAGENET, auto_augment_transform, simclr_transform)
    copy = pickle.loads(pickle.dumps(pair))
    with isolated_rng(3):
        expected = pair(picture)
    with isolated_rng(3):
        assert all(torch.equal(a, b) for a, b in zip(copy(picture), expected, strict=True))


def test_a_flip_that_is_no_probability_is_named_as_the_pair_has_it():
    with pytest.raises(ConfigError, match=r"teacher\.transforms\.train\.flip=2 is no probability"):
        paired_transform(16, IMAGENET, auto_augment_transform, simclr_transform, flip=2)


def test_without_flip_neither_view_is_mirrored():
    red_right = Image.new("RGB", (16, 16))
    red_right.paste((255, 0, 0), (8, 0, 16, 16))
    options = {"jitter_probability": 0.0, "grayscale": 0.0, "scale": (0.9, 1.0)}
    pair = paired_transform(16, PLAIN, simclr_of(options), simclr_of(options), flip=0.0)
    views = [view for _ in range(40) for view in pair(red_right)]
    assert all(view[0, 8, -1] > 0.9 and view[0, 8, 0] < 0.1 for view in views)


def simclr_of(options):
    return lambda size, normalisation, **both: simclr_transform(size, normalisation, **options, **both)
