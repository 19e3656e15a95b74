"""Random streams that belong to one draw and leave the process's streams as they were."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.random.mtrand import get_bit_generator, set_bit_generator  # as numpy.random has them, but typed

# Lent to NumPy's global stream for a block: to save and restore that stream's own state takes 190 us of an image's
# time, and to make a generator as long.
_OWN = np.random.MT19937(0)


@contextmanager
def own_streams(*key: int) -> Iterator[None]:
    """Within the block, everything drawn depends on `key` alone; afterwards the streams go on as before.

    It covers the three streams that timm's and torchvision's transforms draw from: Python's `random`,
    NumPy's global stream and torch's CPU stream. Streams on devices are not touched. (Of a pair of Gaussians that
    NumPy's legacy functions draw at once, one that was not yet asked for is lost.)

    Args:
        key: integers from 0, always equally many for one purpose.
    """
    before = random.getstate(), get_bit_generator(), torch.get_rng_state()
    assert before[1] is not _OWN, "blocks do not nest"
    words = np.random.SeedSequence(key).generate_state(9)
    try:
        random.seed(words[:4].tobytes())
        set_bit_generator(_OWN)
        np.random.seed(words[4:8])
        torch.default_generator.manual_seed(int(words[8]))
        yield
    finally:
        random.setstate(before[0])
        set_bit_generator(before[1])
        torch.set_rng_state(before[2])
