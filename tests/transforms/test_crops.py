import numpy as np
import pytest
import torch
from PIL import Image

from deitlt.errors import ConfigError
from deitlt.transforms import (
    IMAGENET,
    CropFlip,
    auto_augment_transform,
    imagenet_transform,
    simclr_transform,
    student_transform,
    three_augment_transform,
)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def places_of_a_dot(crop, size, padding):
    dot = np.zeros((size, size, 3), np.uint8)
    dot[size // 2, size // 2] = 255
    shift = CropFlip(crop, (1.0, 1.0), padding).random_crop(size)
    crops = [np.asarray(shift(Image.fromarray(dot)))[..., 0] for _ in range(300)]
    return {tuple(np.argwhere(x)[0]) for x in crops}


@pytest.mark.parametrize("crop", ["padded", "simple"])
def test_an_image_of_the_size_is_shifted_by_up_to_the_padding(crop):
    assert places_of_a_dot(crop, 16, 2) == {(row, column) for row in range(6, 11) for column in range(6, 11)}


def test_padded_fills_with_black_and_simple_with_a_reflection():
    white = Image.new("RGB", (12, 12), (255, 255, 255))
    shift = {crop: CropFlip(crop, (1.0, 1.0), 4).random_crop(12) for crop in ("padded", "simple")}
    assert any(np.asarray(shift["padded"](white)).min() == 0 for _ in range(20))
    assert all(np.asarray(shift["simple"](white)).min() == 255 for _ in range(20))


def test_simple_keeps_the_shape_of_what_padded_squashes(picture):
    whole = np.asarray(CropFlip("padded", (1.0, 1.0), 0).random_crop(24)(picture))
    square = np.asarray(CropFlip("simple", (1.0, 1.0), 0).random_crop(24)(picture))
    assert whole.shape == square.shape == (24, 24, 3)
    assert np.ptp(whole[12, :, 0].astype(int)) > 240  # all of the 32 columns
    assert np.ptp(square[12, :, 0].astype(int)) < 200  # 24 of them
    assert np.array_equal(square[:, 0, 1], np.asarray(picture)[:, 0, 1])


def test_resized_takes_the_allowed_share_of_the_area():
    rows, columns = np.mgrid[0:64, 0:64] * 4
    corners = Image.fromarray(np.stack([columns, rows, 0 * rows], axis=-1).astype(np.uint8))
    crop = CropFlip("resized", (0.2, 0.5), 0, interpolation="nearest").random_crop(64)
    spans = [np.ptp(np.asarray(crop(corners))[..., :2].reshape(-1, 2).astype(int), axis=0) / 4 + 1 for _ in range(200)]
    shares = [height * width / 64**2 for height, width in spans]
    assert 0.17 < min(shares) < 0.22
    assert 0.46 < max(shares) < 0.53


@pytest.mark.parametrize("make", [student_transform, three_augment_transform, imagenet_transform, simclr_transform])
def test_unknown_crop_is_named(make):
    with pytest.raises(
        ConfigError, match=r"transforms\.train.*\.?crop=centre is no crop; type =resized, =padded or =sim"
    ):
        make(32, IMAGENET, crop="centre")


@pytest.mark.parametrize("padding", [-1, 16, 20])
def test_a_padding_that_cannot_be_is_named(padding):
    with pytest.raises(ConfigError, match=rf"padding={padding} must be .* below the image's 16 pixels"):
        auto_augment_transform(16, IMAGENET, padding=padding)


@pytest.mark.parametrize("scale", [(0.0, 1.0), (0.5, 0.2), (0.2, 1.5), (0.5,)])
@pytest.mark.parametrize("make", [student_transform, three_augment_transform, imagenet_transform, simclr_transform])
def test_shares_of_the_area_that_cannot_be_are_named(make, scale):
    with pytest.raises(ConfigError, match=r"scale=\[[\d.,]+\] are no shares of an area; type scale=\[0\.08,1\]"):
        make(32, IMAGENET, scale=scale)


@pytest.mark.parametrize(
    "make", [student_transform, three_augment_transform, imagenet_transform, simclr_transform, auto_augment_transform]
)
def test_a_flip_that_is_no_probability_is_named(make):
    with pytest.raises(ConfigError, match=r"transforms\.train.*flip=1\.5 is no probability"):
        make(32, IMAGENET, flip=1.5)


@pytest.mark.parametrize(
    "make",
    [
        lambda: imagenet_transform(32, IMAGENET, jitter=-0.1),
        lambda: three_augment_transform(32, IMAGENET, jitter=1.5),
        lambda: simclr_transform(32, IMAGENET, jitter=(0.4, 0.4, 0.4, 0.6)),
    ],
)
def test_a_jitter_that_cannot_be_is_named(make):
    with pytest.raises(ConfigError, match=r"jitter=\[.*\] cannot be; type strengths"):
        make()
