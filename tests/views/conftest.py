import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def picture():
    """32 x 24 pixels without any symmetry: red grows to the right, green downwards; blue is noise."""
    across, down = np.meshgrid(np.linspace(0, 255, 32), np.linspace(0, 255, 24))
    noise = np.random.default_rng(0).uniform(0, 255, across.shape)
    return Image.fromarray(np.stack([across, down, noise], axis=-1).astype(np.uint8))
