import random

import numpy as np
import pytest
import torch
from PIL import Image

from deitlt.transforms import IMAGENET, denormalise, imagenet_transform
from deitlt.types import Normalisation

PLAIN = Normalisation((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
STILL = {"scale": (1.0, 1.0), "flip": 0.0}


@pytest.fixture(autouse=True)
def seeded():
    random.seed(0), np.random.seed(0), torch.manual_seed(0)


@pytest.fixture
def square(picture):
    return picture.crop((0, 0, 24, 24))


def test_without_any_change_the_picture_stays(square):
    view = imagenet_transform(24, IMAGENET, jitter=0.0, **STILL)(square)
    pixels = torch.from_numpy(np.asarray(square) / 255).permute(2, 0, 1).float()
    torch.testing.assert_close(denormalise(view, IMAGENET), pixels, rtol=0, atol=1e-5)


def test_jitter_changes_brightness_contrast_and_saturation_and_no_hue():
    brown = Image.new("RGB", (8, 8), (140, 110, 80))
    views = torch.stack([imagenet_transform(8, PLAIN, jitter=0.4, **STILL)(brown)[:, 0, 0] for _ in range(300)])
    grey = views @ torch.tensor([0.299, 0.587, 0.114])
    original = float(torch.tensor([140.0, 110.0, 80.0]) @ torch.tensor([0.299, 0.587, 0.114]) / 255)
    assert 0.58 * original < grey.min() < 0.75 * original
    assert 1.25 * original < grey.max() < 1.42 * original
    # Of (140, 110, 80), green is half way between blue and red whatever brightness and saturation are.
    assert ((views[:, 1] - views[:, 2]) / (views[:, 0] - views[:, 2]) - 0.5).abs().max() < 0.05


def test_flips_as_often_as_asked(square):
    def mirrored(flip):
        view = imagenet_transform(24, PLAIN, scale=(0.5, 1.0), flip=flip)
        return sum(bool(x[0, 12, 0] > x[0, 12, -1]) for x in (view(square) for _ in range(100)))

    assert mirrored(0.0) == 0
    assert mirrored(1.0) == 100
    assert 30 < mirrored(0.5) < 70


def test_rand_augment_comes_with_it_if_asked_for(square):
    def changed(rand_augment):
        view = imagenet_transform(24, PLAIN, jitter=0.0, rand_augment=rand_augment, **STILL)
        plain = imagenet_transform(24, PLAIN, jitter=0.0, **STILL)(square)
        return sum(not torch.equal(view(square), plain) for _ in range(200)) / 200

    assert changed(None) == 0
    # Each of two operations happens with probability .5, and a few of them leave such a picture as it is.
    assert 0.55 < changed("rand-n2-m10-mstd0.5") < 0.8


def test_what_moves_in_from_outside_has_the_mean_colour():
    white = Image.new("RGB", (32, 32), (255, 255, 255))
    view = imagenet_transform(32, IMAGENET, jitter=0.0, rand_augment="rand-n1-m10-p1", **STILL)
    corners = torch.stack([view(white)[:, corner, corner] for _ in range(150) for corner in (0, -1)])
    assert (corners.abs().amax(1) < 0.02).any()


@pytest.mark.parametrize("crop", ["resized", "padded", "simple"])
@pytest.mark.parametrize("size", [16, 40])
def test_a_view_has_the_size_that_was_asked_for(picture, crop, size):
    view = imagenet_transform(size, IMAGENET, crop=crop, rand_augment="rand-n2-m10-mstd0.5")
    for _ in range(5):
        x = view(picture)
        assert x.shape == (3, size, size)
        assert type(x) is torch.Tensor
        assert x.isfinite().all()
