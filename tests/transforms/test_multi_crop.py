import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from deitlt.data.loading import isolated_rng
from deitlt.errors import ConfigError
from deitlt.transforms import IMAGENET, multi_crop_transform, student_transform
from deitlt.types import Normalisation

PLAIN = Normalisation((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
STILL = {"flip": 0.0, "rand_augment": None, "erasing": 0.0, "interpolation": "nearest"}


@pytest.fixture
def corners():
    """64 x 64 pixels: red is the column, green the row."""
    rows, columns = np.mgrid[0:64, 0:64] * 4
    return Image.fromarray(np.stack([columns, rows, 0 * rows], axis=-1).astype(np.uint8))


def shown_share(crop):
    """The share of `corners` that a crop shows."""
    pixels = crop[:2].flatten(1) * 255 / 4
    height, width = (pixels.amax(1) - pixels.amin(1) + 1).tolist()
    return height * width / 64**2


def test_global_crops_come_first_and_local_ones_are_smaller(picture):
    crops = multi_crop_transform(32, IMAGENET, global_crops=2, local_crops=3, local_size=16)(picture)
    assert [tuple(crop.shape) for crop in crops] == [(3, 32, 32)] * 2 + [(3, 16, 16)] * 3
    assert all(crop.isfinite().all() for crop in crops)
    assert len({crop.mean().item() for crop in crops}) == 5


def test_without_local_crops_their_size_does_not_matter(picture):
    crops = multi_crop_transform(16, IMAGENET, global_crops=1, local_crops=0)(picture)
    assert [tuple(crop.shape) for crop in crops] == [(3, 16, 16)]


def test_a_global_crop_shows_a_quarter_or_more_and_a_local_one_a_quarter_or_less(corners):
    torch.manual_seed(0)
    view = multi_crop_transform(64, PLAIN, local_size=32, **STILL)
    crops = [view(corners) for _ in range(60)]
    large = [shown_share(crop) for several in crops for crop in several[:2]]
    small = [shown_share(crop) for several in crops for crop in several[2:]]
    assert 0.2 < min(large) < 0.4
    assert max(large) > 0.8
    assert 0.03 < min(small) < 0.08
    assert 0.2 < max(small) < 0.27


def test_padded_global_crops_show_the_whole_and_local_ones_parts(corners):
    view = multi_crop_transform(64, PLAIN, local_size=32, crop="padded", padding=2, **STILL)
    crops = [view(corners) for _ in range(20)]
    assert min(shown_share(crop) for several in crops for crop in several[:2]) > 0.9
    assert max(shown_share(crop) for several in crops for crop in several[2:]) < 0.27


def test_each_crop_is_a_students_view(picture):
    options = {"flip": 0.2, "rand_augment": "rand-m5-n1-mstd0.5-inc1", "erasing": 0.5}
    view = multi_crop_transform(32, IMAGENET, 1, 2, 16, (0.1, 0.2), scale=(0.4, 0.9), **options)
    with isolated_rng(4):
        crops = view(picture)
    with isolated_rng(4):
        assert torch.equal(crops[0], student_transform(32, IMAGENET, scale=(0.4, 0.9), **options)(picture))
        local = student_transform(16, IMAGENET, scale=(0.1, 0.2), **options)
        assert torch.equal(crops[1], local(picture))
        assert torch.equal(crops[2], local(picture))


def test_a_spawned_worker_can_have_it(picture):
    view = multi_crop_transform(32, IMAGENET, local_size=16)
    copy = pickle.loads(pickle.dumps(view))
    with isolated_rng(3):
        expected = view(picture)
    with isolated_rng(3):
        assert all(torch.equal(a, b) for a, b in zip(copy(picture), expected, strict=True))


@pytest.mark.parametrize(("size", "local", "advice"), [(32, 96, 16), (224, 224, 112), (32, 7, 16), (9, 9, 8)])
def test_a_local_size_that_cannot_be_is_named(size, local, advice):
    with pytest.raises(
        ConfigError,
        match=rf"student\.transforms\.train\.local_size={local} must be from 8 to {size - 1}, .*local_size={advice}",
    ):
        multi_crop_transform(size, IMAGENET, local_size=local)


def test_images_too_small_for_local_crops_are_named():
    with pytest.raises(ConfigError, match=r"Images of 8 pixels .* type student\.transforms\.train\.local_crops=0"):
        multi_crop_transform(8, IMAGENET, local_size=8)


@pytest.mark.parametrize(
    ("option", "value"),
    [("global_crops", 0), ("local_crops", -1), ("local_scale", (0.3, 0.1)), ("scale", (0.0, 1.0)), ("flip", -1)],
)
def test_other_options_that_cannot_be_are_named(option, value):
    with pytest.raises(ConfigError, match=rf"student\.transforms\.train\.{option}=.*; type "):
        multi_crop_transform(32, IMAGENET, **{"local_size": 16, option: value})
