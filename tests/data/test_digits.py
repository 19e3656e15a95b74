from pathlib import Path

import numpy as np

from deitlt.data.datasets import DataRequest, get_dataset, read_digits
from deitlt.data.splits import SplitOptions, long_tailed

REQUEST = DataRequest(root=Path("/nowhere"))


def pixels(source):
    return np.stack([np.asarray(source[i]) for i in range(len(source))])


def test_test_set_is_balanced_and_apart_from_the_training_set():
    splits = read_digits(REQUEST)
    assert np.bincount(splits.test.labels).tolist() == [50] * 10
    assert len(splits.train) == 1297
    assert not set(splits.train.indices) & set(splits.test.indices)
    assert splits.class_names == tuple("0123456789")


def test_every_opening_is_the_same():
    first, second = read_digits(REQUEST), read_digits(REQUEST)
    assert np.array_equal(first.test.indices, second.test.indices)
    assert np.array_equal(pixels(first.test), pixels(second.test))


def test_normalisation_fits_the_pixels():
    splits = read_digits(REQUEST)
    values = np.concatenate([pixels(splits.train), pixels(splits.test)]) / 255
    assert values.shape == (1797, 8, 8, 3)
    assert values.max() == 1
    normalisation = get_dataset("digits").normalisation
    np.testing.assert_allclose(normalisation.mean, values.mean((0, 1, 2)), atol=1e-4)
    np.testing.assert_allclose(normalisation.std, values.std((0, 1, 2)), atol=1e-4)


def test_demo_split_falls_from_120_to_6():
    options = SplitOptions(imbalance_factor=0.05, max_count=120)
    result = long_tailed(read_digits(REQUEST), options, (3, 7))
    assert (result.info.counts[0], result.info.counts[-1]) == (120, 6)
    assert len(result.train) == sum(result.info.counts)
