import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def picture():
    """32 x 24 pixels without any symmetry: red grows to the right, green downwards; blue is noise."""
    across, down = np.meshgrid(np.linspace(0, 255, 32), np.linspace(0, 255, 24))
    noise = np.random.default_rng(0).uniform(0, 255, across.shape)
    return Image.fromarray(np.stack([across, down, noise], axis=-1).astype(np.uint8))


@pytest.fixture
def agree():
    """Fails where two samples are not from one distribution: Kolmogorov and Smirnov, at odds of one in a thousand."""

    def check(ours, theirs):
        values = np.unique(np.round(np.concatenate((ours, theirs)), 9))
        shares = (np.searchsorted(np.sort(sample), values + 1e-9, "right") / len(sample) for sample in (ours, theirs))
        distance = np.abs(np.subtract(*shares)).max()
        assert distance < 1.95 * (1 / len(ours) + 1 / len(theirs)) ** 0.5

    return check
