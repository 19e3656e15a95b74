import random
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils._python_dispatch import TorchDispatchMode

from deitlt.errors import ConfigError
from deitlt.transforms import IMAGENET, BatchTransform, batch_transform, student_transform
from deitlt.types import Normalisation

PLAIN = Normalisation((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
NOTHING = {"flip": 0.0, "rand_augment": None, "erasing": 0.0}
WAITS = {"_local_scalar_dense", "item", "nonzero", "masked_select", "bincount", "_unique2", "unique_dim", "is_nonzero"}


class NoWaiting(TorchDispatchMode):
    """Fails where the host would have to wait for a result of the device."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        assert name not in WAITS, name
        if name.startswith("index") or name.startswith("_index_put"):
            chosen = [x for x in args[1] if x is not None] if isinstance(args[1], list | tuple) else []
            assert all(x.dtype is not torch.bool for x in chosen), "a selection by truth values"
        if name == "repeat_interleave":
            assert (kwargs or {}).get("output_size") is not None
        return func(*args, **(kwargs or {}))


def as_batch(picture, copies=1):
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).repeat(copies, 1, 1, 1)


def rng(*key):
    return np.random.default_rng(key or 0)


@pytest.mark.parametrize("crop", ["resized", "padded", "simple"])
@pytest.mark.parametrize(("size", "batch"), [(17, 1), (32, 3), (48, 40)])
def test_a_batch_of_any_size_becomes_views(picture, crop, size, batch):
    view = batch_transform(size, IMAGENET, crop=crop)
    images = as_batch(picture, batch)
    before = images.clone()
    for key in range(4):
        views = view(images, rng(key))
        assert views.shape == (batch, 3, size, size)
        assert views.dtype == torch.float32
        assert views.is_contiguous()
        assert views.isfinite().all()
    assert torch.equal(images, before)


@pytest.mark.parametrize("crop", ["resized", "padded", "simple"])
def test_the_key_alone_decides_and_each_sample_has_its_own_draws(picture, crop):
    view = batch_transform(32, IMAGENET, crop=crop)
    first = view(as_batch(picture, 32), rng(1, 2))
    torch.manual_seed(0), np.random.seed(0), random.seed(0)
    assert torch.equal(first, view(as_batch(picture, 32), rng(1, 2)))
    assert not torch.equal(first, view(as_batch(picture, 32), rng(1, 3)))
    assert len(first.flatten(1).unique(dim=0)) >= 31


def test_grey_images_stay_grey_without_noise(picture):
    grey = as_batch(picture.convert("L").convert("RGB"), 64)
    views = batch_transform(24, Normalisation((0.5,) * 3, (0.2,) * 3), erasing=0.0)(grey, rng())
    assert (views - views[:, :1]).abs().max() < 1e-5


@pytest.mark.parametrize("options", [{}, {"crop": "padded"}, {"crop": "simple", "rand_augment": None}])
def test_views_are_distributed_as_the_students(agree, picture, options):
    random.seed(0), np.random.seed(0), torch.manual_seed(0)
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
        agree(statistic(ours).numpy(), statistic(theirs).numpy())


def test_pixels_are_normalised(picture):
    square = picture.resize((16, 16))
    statistics = Normalisation((0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
    [view] = batch_transform(16, statistics, crop="padded", padding=0, **NOTHING)(as_batch(square), rng())
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (statistics.mean, statistics.std))
    torch.testing.assert_close(view, (as_batch(square)[0] / 255 - mean) / std)


@pytest.mark.parametrize("cropped", [False, True])
def test_flips_are_drawn_for_each_sample(picture, cropped):
    square = as_batch(picture.resize((16, 16)), 400)
    options = {"crop": "padded", "padding": 0, "rand_augment": None, "erasing": 0.0}
    views = batch_transform(16, PLAIN, flip=0.5, **options)(square, rng(), cropped=cropped)
    plain = square[0] / 255
    is_plain, is_mirrored = ((views - x).abs().amax(dim=(1, 2, 3)) < 1e-6 for x in (plain, plain.flip(-1)))
    assert (is_plain ^ is_mirrored).all()
    assert 150 < int(is_mirrored.sum()) < 250
    for flip, same in ((0.0, plain), (1.0, plain.flip(-1))):
        views = batch_transform(16, PLAIN, flip=flip, **options)(square, rng(), cropped=cropped)
        torch.testing.assert_close(views, same.expand_as(views))


def test_images_that_come_cropped_are_augmented_and_not_cropped(picture):
    square = as_batch(picture.resize((32, 32)), 60)
    view = batch_transform(32, PLAIN, scale=(0.08, 0.1), flip=0.0, erasing=0.0)
    views = view(square, rng(), cropped=True)
    untouched = (views - square[0] / 255).abs().amax(dim=(1, 2, 3)) < 1e-6
    assert 5 < int(untouched.sum()) < 30  # a quarter
    assert view.worker_crop()(picture).size == (32, 32)
    shifted = batch_transform(32, PLAIN, crop="padded", padding=2).worker_crop()
    assert shifted(picture).size == (32, 32)


def test_erasing_leaves_noise_in_its_share_of_the_images(picture):
    options = {"crop": "padded", "padding": 0, "flip": 0.0, "rand_augment": None}
    images = as_batch(picture.resize((32, 32)), 2000)
    whole, erased = (batch_transform(32, PLAIN, erasing=share, **options)(images, rng()) for share in (0.0, 0.25))
    changed = whole != erased
    assert (changed.all(dim=1) == changed.any(dim=1)).all()
    share = changed.flatten(1).any(dim=1).float().mean()
    assert share == pytest.approx(0.25, abs=0.04)
    assert erased[changed].std() == pytest.approx(1, abs=0.02)


def test_nobody_waits_for_the_device(picture):
    view = batch_transform(32, IMAGENET, rand_augment="rand-m9-n3-p0.9-mstd0.5-inc1", erasing=0.5)
    with NoWaiting():
        for cropped in (False, True):
            view(as_batch(picture.resize((32, 32)), 60), rng(), cropped=cropped)


def test_the_guard_against_waiting_sees_it():
    for wait in (lambda x: x.sum().item(), lambda x: x[x > 0], lambda x: x.nonzero(), lambda x: bool(x.any())):
        with pytest.raises(AssertionError), NoWaiting():
            wait(torch.ones(3))


def test_a_view_needs_no_value_of_the_images(monkeypatch):
    """On torch's device without any memory, where reading a value is an error."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # which it does not know
    view = batch_transform(24, IMAGENET, erasing=0.0)
    views = view(torch.empty(50, 3, 24, 32, dtype=torch.uint8, device="meta"), rng())
    assert views.shape == (50, 3, 24, 24)
    assert views.device.type == "meta"


def test_short_numbers_outside_change_nothing(picture):
    view, images = batch_transform(32, IMAGENET, crop="padded"), as_batch(picture, 16)
    with torch.autocast("cpu", torch.bfloat16):
        inside = view(images, rng())
    assert torch.equal(inside, view(images, rng()))
    assert not inside.requires_grad


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"crop": "centre"}, r"there\.crop=centre is no crop"),
        ({"scale": (0.0, 1.0)}, r"there\.scale=\[0\.0,1\.0\] are no shares"),
        ({"flip": 1.5}, r"there\.flip=1\.5 is no probability"),
        ({"erasing": -1}, r"there\.erasing=-1 is no probability"),
        ({"crop": "padded", "padding": 32}, r"there\.padding=32 must be"),
        ({"interpolation": "nearest"}, r"there\.interpolation=nearest .* type =bicubic or =bilinear"),
        ({"rand_augment": "rand-m9-tweights"}, r"there\.rand_augment=rand-m9-tweights weights"),
    ],
)
def test_options_that_cannot_be_are_named(options, sentence):
    with pytest.raises(ConfigError, match=sentence):
        batch_transform(32, IMAGENET, where="there", **options)


def test_no_bits_left_are_black_and_no_error():
    """Pillow 13 refuses to keep 0 bits, which the highest strength asks for now and then."""
    view = batch_transform(
        16, PLAIN, crop="padded", rand_augment="rand-m10-n1-p1.0-mstd0.0-inc1", erasing=0.0, padding=0
    )
    white = Image.new("RGB", (16, 16), (255, 255, 255))
    views = view(as_batch(white, 200), rng())
    assert isinstance(view, BatchTransform)
    assert int((views.flatten(1) == 0).all(dim=1).sum()) > 5


@pytest.mark.parametrize("options", [{}, {"crop": "padded"}])
def test_the_parts_that_a_processor_works_on_change_nothing(monkeypatch, picture, options):
    view, images = batch_transform(24, PLAIN, **options), as_batch(picture, 20)
    whole = view(images, rng())
    for numbers in (1, 7 * 3 * 24**2):
        monkeypatch.setattr("deitlt.transforms.batch.CACHED", numbers)
        torch.testing.assert_close(view(images, rng()), whole, rtol=0, atol=1.01 / 255)
