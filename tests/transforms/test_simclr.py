import random

import numpy as np
import pytest
import torch
from PIL import Image

from deitlt.errors import ConfigError
from deitlt.transforms import IMAGENET, simclr_transform
from deitlt.types import Normalisation

PLAIN = Normalisation((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
STILL = {"scale": (1.0, 1.0), "flip": 0.0, "jitter_probability": 0.0, "grayscale": 0.0, "blur": 0.0}


@pytest.fixture(autouse=True)
def seeded():
    random.seed(0), np.random.seed(0), torch.manual_seed(0)


@pytest.fixture
def square(picture):
    return picture.crop((0, 0, 24, 24))


@pytest.fixture
def share(square):
    """The share of views, of 300, with one option changed, of which `happened` is true."""

    def share_of(happened, **options):
        view = simclr_transform(24, PLAIN, **{**STILL, **options})
        return sum(bool(happened(view(square))) for _ in range(300)) / 300

    return share_of


@pytest.fixture
def still(square):
    return simclr_transform(24, PLAIN, **STILL)(square)


def test_without_any_change_the_picture_stays(square, still):
    pixels = torch.from_numpy(np.asarray(square) / 255).permute(2, 0, 1).float()
    torch.testing.assert_close(still, pixels)


def test_a_fifth_of_the_keys_is_grey(share):
    assert share(lambda x: torch.equal(x[0], x[2]), grayscale=0.2) == pytest.approx(0.2, abs=0.06)
    assert share(lambda x: torch.equal(x[0], x[2])) == 0


def test_four_fifths_have_other_colours(share, still):
    assert share(lambda x: not torch.equal(x, still), jitter_probability=0.8) == pytest.approx(0.8, abs=0.06)
    assert share(lambda x: not torch.equal(x, still), jitter_probability=1.0) == 1


def test_half_are_blurred_if_asked_for(share, still):
    always = share(lambda x: x[2].var() < still[2].var(), blur=1.0)
    assert 0.88 < always < 1  # a blur of less than a quarter of a pixel changes nothing
    assert share(lambda x: x[2].var() < still[2].var(), blur=0.5) == pytest.approx(always / 2, abs=0.07)
    assert share(lambda x: not torch.equal(x, still)) == 0


def test_flips_as_often_as_asked(share):
    assert share(lambda x: x[0, 12, 0] > x[0, 12, -1], flip=0.5) == pytest.approx(0.5, abs=0.07)
    assert share(lambda x: x[0, 12, 0] > x[0, 12, -1], flip=0.0) == 0


def test_hue_changes_only_if_asked_for():
    red = Image.new("RGB", (8, 8), (200, 60, 60))

    def hues(hue):
        options = {**STILL, "jitter_probability": 1.0, "jitter": (0.4, 0.4, 0.4, hue)}
        view = simclr_transform(8, PLAIN, **options)
        return [view(red)[:, 0, 0] for _ in range(50)]

    assert all(abs(x[1] - x[2]) < 0.01 for x in hues(0.0))
    assert sum(bool(abs(x[1] - x[2]) > 0.02) for x in hues(0.1)) > 25


@pytest.mark.parametrize("size", [8, 16, 40])
def test_a_view_has_the_size_that_was_asked_for(picture, size):
    view = simclr_transform(size, IMAGENET, blur=1.0)
    for _ in range(5):
        x = view(picture)
        assert x.shape == (3, size, size)
        assert type(x) is torch.Tensor
        assert x.isfinite().all()


@pytest.mark.parametrize("name", ["jitter_probability", "grayscale", "blur"])
def test_what_is_no_probability_is_named(name):
    with pytest.raises(ConfigError, match=rf"teacher\.transforms\.train\.second\.{name}=2 is no probability"):
        simclr_transform(32, IMAGENET, **{name: 2})
