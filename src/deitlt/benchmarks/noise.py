"""Images of noise in memory, of any number and size: what is timed does not depend on what they show."""

import numpy as np

from deitlt.data.images import ArrayImages


def noise_images(images: int, size: int, num_classes: int = 10) -> ArrayImages:
    """Images [N, size, size, 3], uint8, of classes 0, 1, ..., C-1, 0, 1, ..., the same at each call."""
    stream = np.random.default_rng((images, size))
    pixels = stream.integers(0, 256, (images, size, size, 3), dtype=np.uint8)
    return ArrayImages(pixels, np.arange(images) % num_classes)
