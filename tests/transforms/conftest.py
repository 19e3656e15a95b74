import random

import numpy as np
import pytest
import torch
from PIL import Image


@pytest.fixture(autouse=True)
def seeded():
    random.seed(0), np.random.seed(0), torch.manual_seed(0)


@pytest.fixture
def picture():
    """32 x 24 pixels without any symmetry: red grows to the right, green downwards; blue is noise."""
    across, down = np.meshgrid(np.linspace(0, 255, 32), np.linspace(0, 255, 24))
    noise = np.random.default_rng(0).uniform(0, 255, across.shape)
    return Image.fromarray(np.stack([across, down, noise], axis=-1).astype(np.uint8))


@pytest.fixture
def square(picture):
    """The picture's left 24 x 24 pixels."""
    return picture.crop((0, 0, 24, 24))


@pytest.fixture
def corners():
    """64 x 64 pixels: red is four times the column, green four times the row."""
    rows, columns = np.mgrid[0:64, 0:64] * 4
    return Image.fromarray(np.stack([columns, rows, 0 * rows], axis=-1).astype(np.uint8))


@pytest.fixture
def assert_one_distribution():
    """Fails where two samples are not from one distribution: Kolmogorov and Smirnov, at odds of one in a thousand."""

    def check(ours, theirs):
        values = np.unique(np.round(np.concatenate((ours, theirs)), 9))
        shares = (np.searchsorted(np.sort(sample), values + 1e-9, "right") / len(sample) for sample in (ours, theirs))
        distance = np.abs(np.subtract(*shares)).max()
        assert distance < 1.95 * (1 / len(ours) + 1 / len(theirs)) ** 0.5

    return check
