import random
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from tests.modules.device_waits import Waits
from timm.data.random_erasing import RandomErasing

from deitlt.errors import ConfigError
from deitlt.transforms import IMAGENET, batch_transform, student_transform
from deitlt.transforms.batch import Rectangles, draw_rectangles, erase
from deitlt.types import Normalisation

PLAIN = Normalisation((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
NOTHING = {"flip": 0.0, "rand_augment": None, "erasing": 0.0}


def as_batch(picture, copies=1):
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).repeat(copies, 1, 1, 1)


def rng(*key):
    return np.random.default_rng(key or 0)


@pytest.mark.parametrize("crop", ["resized", "padded", "simple"])
@pytest.mark.parametrize("size", [17, 48])
def test_the_key_alone_decides_and_each_sample_has_its_own_draws(picture, crop, size):
    transform, images = batch_transform(size, IMAGENET, crop=crop), as_batch(picture, 32)
    first = transform(images, rng(1, 2))
    assert first.shape == (32, 3, size, size)
    assert first.is_contiguous()
    assert first.isfinite().all()
    assert torch.equal(images, as_batch(picture, 32))  # not changed
    torch.manual_seed(0), np.random.seed(0), random.seed(0)
    assert torch.equal(first, transform(as_batch(picture, 32), rng(1, 2)))
    assert not torch.equal(first, transform(as_batch(picture, 32), rng(1, 3)))
    assert len(first.flatten(1).unique(dim=0)) >= 31


@pytest.mark.parametrize("options", [{}, {"crop": "padded"}, {"crop": "simple", "rand_augment": None}])
def test_images_are_distributed_as_the_students(assert_one_distribution, picture, options):
    alone, together = student_transform(24, IMAGENET, **options), batch_transform(24, IMAGENET, **options)
    theirs = torch.stack([alone(picture) for _ in range(600)])
    ours = torch.cat([together(as_batch(picture, 200), rng(key)) for key in range(3)])
    statistics = {
        "mean": lambda x: x.mean(dim=(1, 2, 3)),
        "contrast": lambda x: x.std(dim=(1, 2, 3)),
        "red": lambda x: x[:, 0].mean(dim=(1, 2)),
        "detail": lambda x: x.diff(dim=-1).abs().mean(dim=(1, 2, 3)),
        "to the right": lambda x: x[:, 0, :, 12:].mean(dim=(1, 2)) - x[:, 0, :, :12].mean(dim=(1, 2)),
        "downwards": lambda x: x[:, 1, 12:].mean(dim=(1, 2)) - x[:, 1, :12].mean(dim=(1, 2)),
        "corner": lambda x: x[:, 2, 0, 0],
        "middle": lambda x: x[:, 2, 12, 12],
    }
    for statistic in statistics.values():
        assert_one_distribution(statistic(ours).numpy(), statistic(theirs).numpy())


@pytest.mark.parametrize("cropped", [False, True])
def test_flips_are_drawn_for_each_sample_and_images_that_come_cropped_are_not_cropped(picture, cropped):
    square = as_batch(picture.resize((16, 16)), 400)
    options = {"crop": "padded", "padding": 5 if cropped else 0, "rand_augment": None, "erasing": 0.0}
    assert batch_transform(16, PLAIN, **options).worker_crop()(picture).size == (16, 16)
    found = batch_transform(16, PLAIN, flip=0.5, **options)(square, rng(), cropped=cropped)
    plain = square[0] / 255
    is_plain, is_mirrored = ((found - x).abs().amax(dim=(1, 2, 3)) < 1e-6 for x in (plain, plain.flip(-1)))
    assert (is_plain ^ is_mirrored).all()
    assert 150 < int(is_mirrored.sum()) < 250
    for flip, same in ((0.0, plain), (1.0, plain.flip(-1))):
        found = batch_transform(16, PLAIN, flip=flip, **options)(square, rng(), cropped=cropped)
        torch.testing.assert_close(found, same.expand_as(found))


def test_nobody_waits_for_the_device(picture):
    transform = batch_transform(32, IMAGENET, rand_augment="rand-m9-n3-p0.9-mstd0.5-inc1", erasing=0.5)
    for cropped in (False, True):
        with Waits() as waits:
            transform(as_batch(picture.resize((32, 32)), 60), rng(), cropped=cropped)
        assert waits.found == {}


def test_a_transform_needs_no_value_of_the_images(monkeypatch):
    """On torch's device without any memory, where reading a value is an error."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # which it does not know
    transform = batch_transform(24, IMAGENET, erasing=0.0)
    found = transform(torch.empty(50, 3, 24, 32, dtype=torch.uint8, device="meta"), rng())
    assert found.shape == (50, 3, 24, 24)
    assert found.device.type == "meta"


def test_short_numbers_outside_change_nothing(picture):
    transform, images = batch_transform(32, IMAGENET, crop="padded"), as_batch(picture, 16)
    with torch.autocast("cpu", torch.bfloat16):
        inside = transform(images, rng())
    assert torch.equal(inside, transform(images, rng()))
    assert not inside.requires_grad


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"scale": (0.0, 1.0)}, r"there\.scale=\[0\.0,1\.0\] are no shares"),
        ({"crop": "padded", "padding": 32}, r"there\.padding=32 must be"),
        ({"rand_augment": "rand-m9-tweights"}, r"there\.rand_augment=rand-m9-tweights weights"),
    ],
)
def test_options_that_cannot_be_are_named(options, sentence):
    with pytest.raises(ConfigError, match=sentence):
        batch_transform(32, IMAGENET, where="there", **options)


@pytest.mark.parametrize("options", [{}, {"crop": "padded"}])
def test_the_parts_that_a_processor_works_on_change_nothing(monkeypatch, picture, options):
    transform, images = batch_transform(24, PLAIN, **options), as_batch(picture, 20)
    whole = transform(images, rng())
    for numbers in (1, 7 * 3 * 24**2):
        monkeypatch.setattr("deitlt.transforms.batch.CACHED", numbers)
        torch.testing.assert_close(transform(images, rng()), whole, rtol=0, atol=1.01 / 255)


# Erasing

DRAWS = 3000


def timms_boxes(size):
    erasing = RandomErasing(0.25, mode="pixel", device="cpu")
    boxes = []
    for _ in range(DRAWS):
        mask = erasing(torch.zeros(1, *size))[0] != 0
        if mask.any():
            rows, columns = (mask.any(axis).nonzero().flatten() for axis in (1, 0))
            boxes.append([int(rows[0]), int(columns[0]), len(rows), len(columns)])
    return np.array(boxes)


@pytest.mark.parametrize("size", [(32, 32), (20, 28)])
def test_rectangles_are_distributed_as_timms(assert_one_distribution, size):
    theirs, ours = timms_boxes(size), draw_rectangles(0.25, size, DRAWS, np.random.default_rng(1))
    assert abs(len(ours.samples) - len(theirs)) < 4 * (2 * DRAWS * 0.25 * 0.75) ** 0.5
    for a, b in zip(ours.boxes.T, theirs.T, strict=True):
        assert_one_distribution(a, b)
    assert_one_distribution(*(boxes[:, 2] * boxes[:, 3] for boxes in (ours.boxes, theirs)))
    assert_one_distribution(*(boxes[:, 2] / boxes[:, 3] for boxes in (ours.boxes, theirs)))


def test_noise_is_standard_normal_in_the_rectangles_and_nowhere_else():
    boxes = np.array([[1, 2, 3, 4], [0, 0, 7, 7], [5, 4, 3, 4]])
    images = torch.full((5, 3, 8, 8), 9.0)
    erase(images, Rectangles(np.array([0, 2, 3]), boxes), torch.Generator().manual_seed(0))
    for sample, (top, left, height, width) in zip((0, 2, 3), boxes, strict=True):
        assert (images[sample] != 9).sum() == 3 * height * width
        assert (images[sample, :, top : top + height, left : left + width] != 9).all()
    assert (images[[1, 4]] == 9).all()
    large = torch.zeros(40, 3, 40, 40)
    boxes = np.tile([[0, 0, 40, 40]], (40, 1))
    erase(large, Rectangles(np.arange(40), boxes), torch.Generator().manual_seed(0))
    assert large.mean().abs() < 0.01
    assert large.std() == pytest.approx(1, abs=0.01)
    assert torch.corrcoef(large.transpose(0, 1).flatten(1)).fill_diagonal_(0).abs().max() < 0.02
