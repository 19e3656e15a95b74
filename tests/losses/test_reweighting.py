from pathlib import Path

import numpy as np
import pytest
import torch

from deitlt.errors import ConfigError, DataError
from deitlt.losses import effective_number_weights

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "class_weights.npz")


@pytest.mark.parametrize("name", ["c10_0.01", "c100_0.01"])
@pytest.mark.parametrize(("key", "beta"), [("w64", 0.9999), ("w64_beta0", 0.0), ("w64_beta999", 0.999)])
def test_weights_equal_the_authors(name, key, beta):
    weights = effective_number_weights(GOLDEN[f"{name}_counts"], beta, dtype=torch.float64)
    np.testing.assert_allclose(weights.numpy(), GOLDEN[f"{name}_{key}"], rtol=1e-9)


@pytest.mark.parametrize("name", ["c10_0.01", "c100_0.01"])
def test_default_type_is_float32(name):
    weights = effective_number_weights(GOLDEN[f"{name}_counts"].tolist())
    assert weights.dtype == torch.float32
    np.testing.assert_allclose(weights.numpy(), GOLDEN[f"{name}_w32"], rtol=1e-6)


def test_imagenet_lt_weights_of_sorted_classes():
    counts = np.sort(GOLDEN["imagenetlt_counts_by_original_label"])[::-1].copy()
    weights = effective_number_weights(counts, dtype=torch.float64)
    np.testing.assert_allclose(weights.numpy(), GOLDEN["imagenetlt_w64_mapped"], rtol=1e-9)


@pytest.mark.parametrize("beta", [0.0, 0.9, 0.9999])
def test_weights_sum_to_the_number_of_classes(beta):
    assert effective_number_weights([500, 60, 7], beta).sum().item() == pytest.approx(3, rel=1e-6)


def test_equal_counts_give_ones():
    torch.testing.assert_close(effective_number_weights([12, 12, 12, 12]), torch.ones(4))


@pytest.mark.parametrize("beta", [1.0, -0.1, 2.0, float("nan")])
def test_beta_outside_its_range(beta):
    with pytest.raises(ConfigError, match=r"beta=.*type beta=0\.9999"):
        effective_number_weights([1, 2], beta)


def test_an_empty_class_is_named():
    with pytest.raises(DataError, match="class 1 has 0 training images"):
        effective_number_weights([3, 0, 2])
