import random
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter, ImageOps
from torchvision import transforms
from torchvision.transforms import v2

from deitlt.errors import ConfigError
from deitlt.transforms import (
    IMAGENET,
    CropFlip,
    auto_augment_transform,
    denormalise,
    evaluation_transform,
    imagenet_transform,
    simclr_transform,
    student_transform,
    three_augment_transform,
    weak_transform,
)
from deitlt.transforms.image import Cutout
from deitlt.types import Normalisation

PLAIN = Normalisation((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
WHOLE = (1.0, 1.0)
# Each transform with its colour changes off.
STUDENT = partial(student_transform, rand_augment=None, erasing=0.0)
IMAGENETS = partial(imagenet_transform, jitter=0.0)
SIMCLR = partial(simclr_transform, jitter_probability=0.0, grayscale=0.0, blur=0.0)
THREE = partial(three_augment_transform, jitter=0.0)
AUGMENTED = partial(imagenet_transform, rand_augment="rand-n2-m10-mstd0.5")
CROPPING = [student_transform, three_augment_transform, AUGMENTED, simclr_transform]


def pixels(picture):
    return torch.from_numpy(np.asarray(picture) / 255).permute(2, 0, 1).float()


def halves(right):
    """32 x 32 pixels: black on the left."""
    return Image.fromarray(np.repeat(np.array([[[0] * 3, [right] * 3]], np.uint8), 16, axis=1).repeat(32, axis=0))


# Statistics and evaluation


def test_imagenets_statistics_are_undone_and_clamped_to_levels():
    assert Normalisation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)) == IMAGENET
    levels = torch.rand(2, 3, 4, 4)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (IMAGENET.mean, IMAGENET.std))
    torch.testing.assert_close(denormalise((levels - mean) / std, IMAGENET), levels)
    torch.testing.assert_close(denormalise(((levels - mean) / std)[0], IMAGENET), levels[0])
    extremes = denormalise(torch.tensor([-100.0, 100.0]).view(2, 1, 1, 1).expand(2, 3, 1, 1), IMAGENET)
    assert extremes.flatten(1).tolist() == [[0.0] * 3, [1.0] * 3]


def test_evaluation_scales_to_256_and_keeps_the_middle_224():
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (300, 500, 3)).astype(np.uint8))
    transform = evaluation_transform(224, IMAGENET, crop_share=0.875)
    scaled = np.asarray(picture.resize((int(500 * 256 / 300), 256), Image.Resampling.BICUBIC))
    left = round((scaled.shape[1] - 224) / 2)
    expected = pixels(scaled[16:240, left : left + 224])
    torch.testing.assert_close(denormalise(transform(picture), IMAGENET), expected, rtol=0, atol=2e-3)
    assert torch.equal(transform(picture), transform(picture))


# What all transforms share: size, crop, flip, normalisation


@pytest.mark.parametrize(
    "make",
    [
        *(partial(make, crop=crop) for make in CROPPING for crop in ("resized", "padded", "simple")),
        *(auto_augment_transform, weak_transform, evaluation_transform),
        partial(evaluation_transform, crop_share=0.875),
    ],
)
@pytest.mark.parametrize("size", [16, 40])
def test_an_image_gets_the_size_that_was_asked_for(picture, make, size):
    transform = make(size, IMAGENET)
    for _ in range(5):
        x = transform(picture)
        assert x.shape == (3, size, size)
        assert type(x) is torch.Tensor
        assert x.dtype == torch.float32
        assert x.isfinite().all()


@pytest.mark.parametrize(
    "make",
    [
        evaluation_transform,
        partial(weak_transform, padding=0, flip=0.0),
        partial(STUDENT, crop="padded", padding=0, flip=0.0),
        *(partial(make, scale=WHOLE, flip=0.0, interpolation="bicubic") for make in (IMAGENETS, SIMCLR)),
    ],
)
@pytest.mark.parametrize("size", [24, 32])
def test_without_any_random_change_the_picture_is_scaled_and_normalised(square, make, size):
    expected = pixels(square.resize((size, size), Image.Resampling.BICUBIC))
    torch.testing.assert_close(denormalise(make(size, IMAGENET)(square), IMAGENET), expected, rtol=0, atol=1e-3)
    torch.testing.assert_close(make(size, PLAIN)(square), expected)


FLIPPING = [
    *(partial(STUDENT, crop="resized", scale=(0.9, 1.0)), partial(STUDENT, crop="padded", padding=2)),
    *(partial(IMAGENETS, scale=(0.9, 1.0)), partial(SIMCLR, scale=(0.9, 1.0)), partial(weak_transform, padding=2)),
    partial(THREE, crop="padded", padding=0),
]


@pytest.mark.parametrize("make", FLIPPING)
def test_images_are_mirrored_as_often_as_asked(make):
    def mirrored(flip):
        transform = make(32, PLAIN, flip=flip)  # no colour change but a blur, and solarising spares the dark
        return sum(
            bool(x[0, 4:-4, 4].mean() > x[0, 4:-4, -5].mean()) for x in (transform(halves(100)) for _ in range(100))
        )

    assert mirrored(0.0) == 0
    assert mirrored(1.0) == 100
    assert 30 < mirrored(0.5) < 70


@pytest.mark.parametrize(
    "make",
    [
        partial(student_transform, crop="padded", rand_augment="rand-m1-n1-inc0", erasing=0.0),
        partial(auto_augment_transform, cutout=0.0),
    ],
)
def test_operations_on_colours_and_shapes_mirror_nothing(make):
    def mirrored(flip):  # a few operations invert the colours, which looks like it
        images = [make(32, PLAIN, flip=flip)(halves(255)) for _ in range(120)]
        return sum(bool(x[:, 8:-8, :8].mean() > x[:, 8:-8, -8:].mean()) for x in images) / 120

    assert mirrored(0.0) < 0.27
    assert mirrored(1.0) > 0.73


@pytest.mark.parametrize(
    "shift",
    [
        *(CropFlip(crop, WHOLE, 2).random_crop(16) for crop in ("padded", "simple")),
        weak_transform(16, PLAIN, padding=2, flip=0.0),
        STUDENT(16, PLAIN, crop="padded", padding=2, flip=0.0),
    ],
)
def test_an_image_of_the_size_is_shifted_by_up_to_the_padding(shift):
    dot = np.zeros((16, 16, 3), np.uint8)
    dot[8, 8] = 255
    crops = [shift(Image.fromarray(dot)) for _ in range(300)]
    reds = [np.asarray(x)[..., 0] if isinstance(x, Image.Image) else x[0].numpy() for x in crops]
    assert {tuple(np.argwhere(x)[0]) for x in reds} == {
        (row, column) for row in range(6, 11) for column in range(6, 11)
    }


def test_simple_keeps_the_shape_of_what_padded_squashes_and_reflects_where_that_fills_with_black(picture):
    padded, simple = (np.asarray(CropFlip(crop, WHOLE, 0).random_crop(24)(picture)) for crop in ("padded", "simple"))
    assert padded.shape == simple.shape == (24, 24, 3)
    assert np.ptp(padded[12, :, 0].astype(int)) > 240  # all of the 32 columns
    assert np.ptp(simple[12, :, 0].astype(int)) < 200  # 24 of them
    assert np.array_equal(simple[:, 0, 1], np.asarray(picture)[:, 0, 1])
    white = Image.new("RGB", (12, 12), (255, 255, 255))
    padded, simple = (CropFlip(crop, WHOLE, 4).random_crop(12) for crop in ("padded", "simple"))
    assert any(np.asarray(padded(white)).min() == 0 for _ in range(20))
    assert all(np.asarray(simple(white)).min() == 255 for _ in range(20))


@pytest.mark.parametrize("size", [24, 32])
@pytest.mark.parametrize("padding", [0, 3])
@pytest.mark.parametrize("flip", [0.0, 0.3, 1.0])
def test_shifts_and_flips_are_torchvisions_draw_for_draw(square, size, padding, flip):
    begin = CropFlip("padded", padding=padding, flip=flip)
    theirs = [begin.random_crop(size), transforms.RandomHorizontalFlip(flip)]
    for seed in range(20):
        found = expected = square
        torch.manual_seed(seed)
        for step in begin.torchvision_steps(size):
            found = step(found)
        draw = torch.rand(1)
        torch.manual_seed(seed)
        for step in theirs:
            expected = step(expected)
        assert found.tobytes() == expected.tobytes()
        assert torch.equal(torch.rand(1), draw)


def test_resized_takes_the_allowed_share_of_the_area(corners):
    crop = CropFlip("resized", (0.2, 0.5), 0, interpolation="nearest").random_crop(64)
    spans = [np.ptp(np.asarray(crop(corners))[..., :2].reshape(-1, 2).astype(int), axis=0) / 4 + 1 for _ in range(200)]
    shares = [height * width / 64**2 for height, width in spans]
    assert 0.17 < min(shares) < 0.22
    assert 0.46 < max(shares) < 0.53


# The student's


@pytest.mark.parametrize("make", [STUDENT, partial(THREE)])
def test_erasing_puts_noise_into_a_rectangle(make):
    grey = Image.new("RGB", (32, 32), (120, 120, 120))
    options = {"crop": "padded", "padding": 0, "flip": 0.0}
    whole, erased = (make(32, PLAIN, **{**options, **share})(grey) for share in ({}, {"erasing": 1.0}))
    changed = whole != erased
    rows, columns = changed.any(0).any(1).nonzero(), changed.any(0).any(0).nonzero()
    height, width = (int(span.max() - span.min()) + 1 for span in (rows, columns))
    assert 0 < height * width < 32 * 32
    assert changed.sum() == 3 * height * width  # each pixel of the rectangle, in each colour


def test_posterising_to_no_bits_is_no_error(picture):
    """Pillow 13 refuses to keep 0 bits, for which timm asks now and then."""
    transform = student_transform(16, IMAGENET, rand_augment="rand-m10-mstd0.0-n1-inc1")
    augment = next(t for t in transform.steps if type(t).__name__ == "RandAugment")
    posterise = next(op for op in augment.ops if op.name == "PosterizeIncreasing")
    posterise.prob = 1.0
    black = posterise(picture)  # at magnitude 10 there are 4 - 4 = 0 bits left
    assert black.getextrema() == ((0, 0), (0, 0), (0, 0))


# 3-Augment

THREE_STILL = {"crop": "padded", "padding": 0, "flip": 0.0}


def test_one_of_the_three_happens_always_and_each_as_often_and_a_blur_is_at_most_of_two_pixels(square):
    transform = THREE(24, PLAIN, **THREE_STILL)
    found = [transform(square) for _ in range(600)]
    grey, solarised = pixels(ImageOps.grayscale(square).convert("RGB")), pixels(ImageOps.solarize(square, 128))
    greys, solarisations = (sum(torch.equal(x, image) for x in found) for image in (grey, solarised))
    blurred = [float(x[2].var()) for x in found if not torch.equal(x, grey) and x[2].var() < pixels(square)[2].var()]
    assert greys == pytest.approx(200, abs=35)
    assert solarisations == pytest.approx(200, abs=35)
    assert greys + solarisations + len(blurred) >= 590  # the weakest blurs change no pixel
    strongest = float(pixels(square.filter(ImageFilter.GaussianBlur(2)))[2].var())
    assert strongest * 0.999 <= min(blurred) <= strongest * 1.1


def test_colours_change_after_the_three(square):
    def brightness(jitter):
        transform = three_augment_transform(24, PLAIN, jitter=jitter, **THREE_STILL)
        return [float(x[0].mean()) for x in (transform(square) for _ in range(300)) if torch.equal(x[0], x[1])]

    assert np.ptp(brightness(0.0)) == 0
    changed, plain = brightness(0.3), float(pixels(ImageOps.grayscale(square).convert("RGB")).mean())
    assert plain * 0.68 < min(changed) < plain * 0.8
    assert plain * 1.2 < max(changed) < plain * 1.32


def test_rand_augment_of_a_recipe_for_another_transform_is_not_used(square):
    def draw(**options):
        random.seed(1), np.random.seed(1), torch.manual_seed(1)
        transform = three_augment_transform(24, IMAGENET, **options)
        return torch.stack([transform(square) for _ in range(5)])

    assert torch.equal(draw(rand_augment="rand-m9-mstd0.5-inc1"), draw())


# Teachers'


def test_imagenets_jitter_changes_brightness_contrast_and_saturation_and_no_hue():
    colour = Image.new("RGB", (8, 8), (140, 110, 80))
    transform = imagenet_transform(8, PLAIN, jitter=0.4, scale=WHOLE, flip=0.0)
    found = torch.stack([transform(colour)[:, 0, 0] for _ in range(300)])
    weights = torch.tensor([0.299, 0.587, 0.114])
    grey, original = found @ weights, float(torch.tensor([140.0, 110.0, 80.0]) @ weights / 255)
    assert 0.58 * original < grey.min() < 0.75 * original
    assert 1.25 * original < grey.max() < 1.42 * original
    # Of (140, 110, 80), green is half way between blue and red whatever brightness and saturation are.
    assert ((found[:, 1] - found[:, 2]) / (found[:, 0] - found[:, 2]) - 0.5).abs().max() < 0.05


def test_rand_augment_comes_if_asked_for_and_moves_the_mean_colour_in_from_outside():
    white = Image.new("RGB", (32, 32), (255, 255, 255))
    assert (IMAGENETS(32, PLAIN, scale=WHOLE)(white) == 1).all()  # no RandAugment
    transform = IMAGENETS(32, IMAGENET, rand_augment="rand-n1-m10-p1", scale=WHOLE, flip=0.0)
    found = torch.stack([transform(white)[:, corner, corner] for _ in range(150) for corner in (0, -1)])
    assert (found.abs().amax(1) < 0.02).any()


@pytest.mark.parametrize(
    ("option", "happened"),
    [
        ("grayscale", lambda x, still: torch.equal(x[0], x[2])),
        ("jitter_probability", lambda x, still: not torch.allclose(x, still, atol=1e-6)),
        ("blur", lambda x, still: x[2].var() < still[2].var()),
    ],
)
def test_simclr_changes_colours_as_often_as_asked(square, option, happened):
    def share(probability):
        transform = SIMCLR(24, PLAIN, scale=WHOLE, flip=0.0, **{option: probability})
        return sum(bool(happened(transform(square), pixels(square))) for _ in range(300)) / 300

    assert share(0.0) == 0
    always = share(1.0)
    assert always > 0.88  # a blur of less than a quarter of a pixel changes nothing
    assert share(0.3) == pytest.approx(0.3 * always, abs=0.07)


def test_simclrs_hue_changes_only_if_asked_for():
    red = Image.new("RGB", (8, 8), (200, 60, 60))

    def hues(hue):
        jitter = {"jitter_probability": 1.0, "jitter": (0.4, 0.4, 0.4, hue)}
        transform = SIMCLR(8, PLAIN, scale=WHOLE, flip=0.0, **jitter)
        return [transform(red)[:, 0, 0] for _ in range(50)]

    assert all(abs(x[1] - x[2]) < 0.01 for x in hues(0.0))
    assert sum(bool(abs(x[1] - x[2]) > 0.02) for x in hues(0.1)) > 25


def test_autoaugment_is_torchvisions_for_cifar(square):
    # Its crop draws from the stream even where it cannot choose, so that the policy is met after one draw.
    transform = auto_augment_transform(24, PLAIN, cutout=0.0, padding=0, flip=0.0)
    policy = v2.AutoAugment(v2.AutoAugmentPolicy.CIFAR10, fill=128)
    after = transform.steps.index(next(t for t in transform.steps if isinstance(t, v2.AutoAugment)))
    for seed in range(25):
        torch.manual_seed(seed)
        for step in transform.steps[:after]:
            assert step(square).tobytes() == square.tobytes()
        expected = pixels(policy(square))
        torch.manual_seed(seed)
        torch.testing.assert_close(transform(square), expected)


def test_autoaugments_cutout_is_black_and_comes_last(square):
    transform = auto_augment_transform(24, IMAGENET, padding=0, flip=0.0)
    found = [denormalise(transform(square), IMAGENET) for _ in range(60)]
    black = torch.stack([(x.amax(0) < 1e-6).float().mean() for x in found])
    assert black.min() > 0.24**2  # a quarter of the square at least, which is a quarter of the image
    assert black.mean() > 0.17


# Cutout


def cut_squares(share, size, n=1500):
    cutout, white = Cutout(share), Image.new("RGB", (size, size), (255, 255, 255))
    return [torch.from_numpy(np.asarray(cutout(white))[..., 0] == 0) for _ in range(n)]


@pytest.mark.parametrize(("share", "size", "sides"), [(0.5, 32, range(8, 17)), (0.5, 16, range(4, 9)), (0.0, 16, [0])])
def test_cutout_is_one_square_that_goes_with_the_image_and_is_cut_off_by_its_border(share, size, sides):
    squares = cut_squares(share, size, 600)
    heights, widths = ([int(mask.any(axis).sum()) for mask in squares] for axis in (1, 0))
    assert set(heights) == set(widths) == set(sides)
    assert all(int(mask.sum()) == h * w for mask, h, w in zip(squares, heights, widths, strict=True))


def test_cutouts_centre_is_uniform_over_the_image():
    squares = torch.stack(cut_squares(0.5, 32)).float()
    # Of 32 centres, a side's mean length is 14 pixels: 17 whole ones, 8 to 15 at one border and 9 to 15 at the other.
    assert squares.mean() == pytest.approx((14 / 32) ** 2, abs=0.008)
    # A pixel in the middle is cut by 16 of 32 centres in each direction; the corners by 8 and 9.
    assert squares[:, 16, 16].mean() == pytest.approx(0.25, abs=0.04)
    assert squares[:, 0, 0].mean() == pytest.approx((9 / 32) ** 2, abs=0.03)
    assert squares[:, -1, -1].mean() == pytest.approx((8 / 32) ** 2, abs=0.03)


def test_cutout_takes_the_same_from_all_channels_and_leaves_the_image_that_came_in():
    levels = np.random.default_rng(0).integers(1, 255, (20, 28, 3), dtype=np.uint8)
    picture = Image.fromarray(levels)
    cut = np.array(Cutout(0.4)(picture))
    assert np.array_equal(np.asarray(picture), levels)
    gone = cut == 0
    assert (gone == gone[..., :1]).all()
    assert np.array_equal(cut[~gone], levels[~gone])


# Errors


@pytest.mark.parametrize("make", CROPPING)
@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        *(
            ({"scale": scale}, r"scale=\[[\d.,]+\] are no shares of an area; type scale=\[0\.08,1\]")
            for scale in [(0.0, 1.0), (0.5, 0.2), (0.2, 1.5), (0.5,)]
        ),
        *(({"crop": "padded", "padding": n}, rf"padding={n} must be below the image's 16 pixels") for n in (16, 20)),
    ],
)
def test_an_option_of_the_crop_that_cannot_be_is_named(make, options, sentence):
    with pytest.raises(ConfigError, match=sentence):
        make(16, IMAGENET, **options)


def test_an_option_of_one_transform_that_cannot_be_is_named():
    with pytest.raises(ConfigError, match=r"padding=32 must be below the image's 32 pixels"):
        auto_augment_transform(32, IMAGENET, padding=32)
    with pytest.raises(ConfigError, match=r"train\.second\.jitter=\[.*\] cannot be; type strengths"):
        simclr_transform(32, IMAGENET, jitter=(0.4, 0.4, 0.4, 0.6))
