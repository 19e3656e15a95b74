"""Random streams that belong to one draw and leave the process's streams as they were."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def own_streams(*key: int) -> Iterator[None]:
    """Within the block, everything drawn depends on `key` alone; afterwards the streams go on as before.

    It covers the three streams that timm's and torchvision's transforms draw from: Python's `random`,
    NumPy's global stream and torch's CPU stream. Streams on devices are not touched.

    Args:
        key: integers from 0, always equally many for one purpose.
    """
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    words = np.random.SeedSequence(key).generate_state(9)
    try:
        random.seed(words[:4].tobytes())
        np.random.seed(words[4:8])
        torch.default_generator.manual_seed(int(words[8]))
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.set_rng_state(before[2])
