import random

import numpy as np
import PIL
import pytest
import torch
from PIL import Image

from deitlt.errors import ConfigError
from deitlt.transforms import IMAGENET, student_transform
from deitlt.types import Normalisation

PLAIN = Normalisation((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
NO_COLOUR = {"rand_augment": None, "erasing": 0.0}


@pytest.fixture(autouse=True)
def seeded():
    random.seed(0), np.random.seed(0), torch.manual_seed(0)


@pytest.mark.parametrize("crop", ["resized", "padded"])
@pytest.mark.parametrize("size", [16, 32, 48])
def test_a_view_has_the_size_that_was_asked_for(picture, crop, size):
    view = student_transform(size, IMAGENET, crop=crop)
    for _ in range(5):
        x = view(picture)
        assert x.shape == (3, size, size)
        assert x.dtype == torch.float32
        assert x.isfinite().all()


@pytest.mark.parametrize("crop", ["resized", "padded"])
def test_flip_is_sure_at_one_and_never_happens_at_zero(picture, crop):
    def to_the_right(flip):  # red grows to the right until the image is mirrored
        view = student_transform(24, PLAIN, crop=crop, scale=(0.3, 1.0), padding=2, flip=flip, **NO_COLOUR)
        views = [view(picture)[0, 3:-3, 3:-3] for _ in range(60)]
        return [bool((x[:, -1] > x[:, 0]).all()) for x in views]

    assert all(to_the_right(0.0))
    assert not any(to_the_right(1.0))
    assert 10 < sum(to_the_right(0.5)) < 50


def test_flip_zero_never_flips_with_everything_else_on():
    half = Image.fromarray(np.repeat(np.array([[[0] * 3, [255] * 3]], np.uint8), 16, axis=1).repeat(32, axis=0))
    view = student_transform(32, PLAIN, crop="padded", flip=0.0, rand_augment="rand-m1-n1-inc0", erasing=0.0)
    # Each single operation of this strength may invert the colours or rotate a little, but not mirror.
    right_is_light = [x[:, 8:-8, -8:].mean() > x[:, 8:-8, :8].mean() for x in (view(half) for _ in range(80))]
    mirrored = student_transform(32, PLAIN, crop="padded", flip=1.0, rand_augment="rand-m1-n1-inc0", erasing=0.0)
    left_is_light = [x[:, 8:-8, -8:].mean() < x[:, 8:-8, :8].mean() for x in (mirrored(half) for _ in range(80))]
    assert sum(right_is_light) > 60
    assert sum(left_is_light) > 60


def test_padded_crop_keeps_the_scale_and_shifts_the_image():
    dot = np.zeros((16, 16, 3), np.uint8)
    dot[8, 8] = 255
    view = student_transform(16, PLAIN, crop="padded", padding=3, flip=0.0, **NO_COLOUR)
    places = {tuple(view(Image.fromarray(dot))[0].nonzero()[0].tolist()) for _ in range(400)}
    assert places == {(row, column) for row in range(5, 12) for column in range(5, 12)}


def test_resized_crop_takes_a_part_of_the_allowed_share(picture):
    def spans(scale):  # the share of red's range that is seen is the share of the width
        view = student_transform(
            32, PLAIN, crop="resized", scale=scale, flip=0.0, interpolation="bilinear", **NO_COLOUR
        )
        return [float(x[0].max() - x[0].min()) for x in (view(picture) for _ in range(100))]

    assert min(spans((1.0, 1.0))) > 0.7
    narrow = spans((0.08, 0.2))
    assert max(narrow) < 0.75
    assert np.ptp(narrow) > 0.1


def test_pixels_are_normalised(picture):
    statistics = Normalisation((0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
    options = {"crop": "padded", "padding": 0, "flip": 0.0, **NO_COLOUR}
    plain, normalised = (student_transform(32, n, **options)(picture) for n in (PLAIN, statistics))
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (statistics.mean, statistics.std))
    torch.testing.assert_close(normalised, (plain - mean) / std)


def test_erasing_puts_noise_into_a_rectangle(picture):
    grey = Image.new("RGB", (32, 32), (124, 116, 104))
    options = {"crop": "padded", "padding": 0, "flip": 0.0, "rand_augment": None}
    whole, erased = (student_transform(32, PLAIN, erasing=share, **options)(grey) for share in (0.0, 1.0))
    changed = whole != erased
    rows, columns = changed.any(0).any(1).nonzero(), changed.any(0).any(0).nonzero()
    height, width = (int(span.max() - span.min()) + 1 for span in (rows, columns))
    assert 0 < height * width < 32 * 32
    assert changed.sum() == 3 * height * width  # each pixel of the rectangle, in each colour


def test_randaugment_survives_many_draws_under_this_pillow(picture):
    # Pillow 13 refuses to posterise to 0 bits, for which timm asks now and then.
    assert int(PIL.__version__.split(".")[0]) < 13
    view = student_transform(16, IMAGENET, rand_augment="rand-m9-mstd0.5-inc1")
    assert all(view(picture).isfinite().all() for _ in range(2000))


def test_posterising_to_no_bits_is_no_error(picture):
    view = student_transform(16, IMAGENET, rand_augment="rand-m10-mstd0.0-n1-inc1")
    augment = next(t for t in view.transforms if type(t).__name__ == "RandAugment")
    posterise = next(op for op in augment.ops if op.name == "PosterizeIncreasing")
    posterise.prob = 1.0
    black = posterise(picture)  # at magnitude 10 there are 4 - 4 = 0 bits left
    assert black.getextrema() == ((0, 0), (0, 0), (0, 0))


def test_unknown_crop_is_named():
    with pytest.raises(ConfigError, match=r"crop=centre is no crop; type =resized, =padded or =simple"):
        student_transform(32, IMAGENET, crop="centre")
