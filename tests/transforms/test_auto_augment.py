import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from deitlt.errors import ConfigError
from deitlt.transforms import IMAGENET, auto_augment_transform, denormalise
from deitlt.types import Normalisation

PLAIN = Normalisation((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
STILL = {"padding": 0, "flip": 0.0}


@pytest.fixture
def square(picture):
    return picture.crop((0, 0, 24, 24))


def test_without_crop_flip_and_cutout_it_is_autoaugment_for_cifar(square):
    # Its crop draws from the stream even where it cannot choose, so that the policy is met after one draw.
    view = auto_augment_transform(24, PLAIN, cutout=0.0, **STILL)
    policy = v2.AutoAugment(v2.AutoAugmentPolicy.CIFAR10, fill=128)
    after = view.transforms.index(next(t for t in view.transforms if isinstance(t, v2.AutoAugment)))
    for seed in range(25):
        torch.manual_seed(seed)
        for step in view.transforms[:after]:
            assert step(square).tobytes() == square.tobytes()
        expected = torch.from_numpy(np.asarray(policy(square)) / 255).permute(2, 0, 1).float()
        torch.manual_seed(seed)
        torch.testing.assert_close(view(square), expected)


def test_cutout_is_black_and_comes_last(square):
    torch.manual_seed(0)
    views = [denormalise(auto_augment_transform(24, IMAGENET, **STILL)(square), IMAGENET) for _ in range(60)]
    black = torch.stack([(x.amax(0) < 1e-6).float().mean() for x in views])
    assert black.min() > 0.24**2  # a quarter of the square at least, which is a quarter of the image
    assert black.mean() > 0.17


def test_shift_and_flip_are_those_of_the_weak_view():
    torch.manual_seed(0)
    half = Image.fromarray(np.repeat(np.array([[[0] * 3, [255] * 3]], np.uint8), 16, axis=1).repeat(32, axis=0))
    view = auto_augment_transform(32, PLAIN, flip=1.0, cutout=0.0)
    flips = [x[:, 8:-8, :8].mean() > x[:, 8:-8, -8:].mean() for x in (view(half) for _ in range(150))]
    assert sum(flips) > 110  # inverted, it looks as it did
    never = auto_augment_transform(32, PLAIN, flip=0.0, cutout=0.0)
    assert sum(x[:, 8:-8, :8].mean() > x[:, 8:-8, -8:].mean() for x in (never(half) for _ in range(150))) < 40


@pytest.mark.parametrize("size", [16, 32])
def test_a_view_has_the_size_that_was_asked_for(picture, size):
    torch.manual_seed(0)
    view = auto_augment_transform(size, IMAGENET, padding=2)
    for _ in range(20):
        x = view(picture)
        assert x.shape == (3, size, size)
        assert type(x) is torch.Tensor
        assert x.isfinite().all()


def test_a_cutout_that_is_no_share_is_named():
    with pytest.raises(ConfigError, match=r"first\.cutout=16 is no"):
        auto_augment_transform(32, IMAGENET, cutout=16)
