import random

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter, ImageOps

from deitlt.transforms import IMAGENET, three_augment_transform
from deitlt.types import Normalisation

PLAIN = Normalisation((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
STILL = {"crop": "padded", "padding": 0, "flip": 0.0}


@pytest.fixture(autouse=True)
def seeded():
    random.seed(0), np.random.seed(0), torch.manual_seed(0)


@pytest.fixture
def square(picture):
    return picture.crop((0, 0, 24, 24))


def tensor(picture):
    return torch.from_numpy(np.asarray(picture) / 255).permute(2, 0, 1).float()


def test_one_of_the_three_happens_always_and_each_as_often(square):
    view = three_augment_transform(24, PLAIN, jitter=0.0, **STILL)
    views = [view(square) for _ in range(600)]
    grey = ImageOps.grayscale(square).convert("RGB")
    greys = sum(torch.equal(x, tensor(grey)) for x in views)
    solarised = sum(torch.equal(x, tensor(ImageOps.solarize(square, 128))) for x in views)
    blurred = [x for x in views if not torch.equal(x, tensor(grey)) and x[2].var() < tensor(square)[2].var()]
    assert greys == pytest.approx(200, abs=35)
    assert solarised == pytest.approx(200, abs=35)
    assert greys + solarised + len(blurred) >= 590  # the weakest blurs change no pixel


def test_blur_is_at_most_of_two_pixels(square):
    view = three_augment_transform(24, PLAIN, jitter=0.0, **STILL)
    noise = [float(x[2].var()) for x in (view(square) for _ in range(300)) if not torch.equal(x[0], x[1])]
    strongest = float(tensor(square.filter(ImageFilter.GaussianBlur(2)))[2].var())
    assert min(noise) == pytest.approx(strongest, rel=0.1)
    assert min(noise) >= strongest * 0.999


def test_colours_change_after_that(square):
    def brightness(jitter):
        view = three_augment_transform(24, PLAIN, jitter=jitter, **STILL)
        greys = [x for x in (view(square) for _ in range(300)) if torch.equal(x[0], x[1])]
        return [float(x[0].mean()) for x in greys]

    assert np.ptp(brightness(0.0)) == 0
    changed, plain = brightness(0.3), float(tensor(ImageOps.grayscale(square).convert("RGB")).mean())
    assert plain * 0.68 < min(changed) < plain * 0.8
    assert plain * 1.2 < max(changed) < plain * 1.32


def test_flips_as_often_as_asked(square):
    def mirrored(flip):  # green grows downwards in any case, red to the right until the image is mirrored
        view = three_augment_transform(24, PLAIN, jitter=0.0, crop="padded", padding=0, flip=flip)
        views = [x for x in (view(square) for _ in range(150)) if x[0].max() > 0.6 and not torch.equal(x[0], x[1])]
        return sum(bool(x[0, 0, 0] > x[0, 0, -1]) for x in views) / len(views)

    assert mirrored(0.0) == 0
    assert mirrored(1.0) == 1
    assert 0.3 < mirrored(0.5) < 0.7


def test_nothing_is_erased_unless_asked_for():
    white = Image.new("RGB", (24, 24), (124, 116, 104))

    def kinds(**options):
        view = three_augment_transform(24, IMAGENET, jitter=0.0, **STILL, **options)
        return {len(x.flatten(1).unique(dim=1)[0]) > 1 for x in (view(white) for _ in range(60))}

    assert kinds() == {False}
    assert kinds(erasing=0.5) == {False, True}


def test_rand_augment_of_a_recipe_for_another_view_is_not_used(square):
    def draw(**options):
        random.seed(1), np.random.seed(1), torch.manual_seed(1)
        view = three_augment_transform(24, IMAGENET, **options)
        return torch.stack([view(square) for _ in range(5)])

    assert torch.equal(draw(rand_augment="rand-m9-mstd0.5-inc1"), draw())
