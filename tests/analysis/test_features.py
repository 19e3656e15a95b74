import math

import numpy as np
import pytest
import torch

from deitlt.analysis import FeatureCovariance
from deitlt.analysis.features import Rank, rank_of


def low_rank(images=200, width=12, rank=3, mean=0.0, seed=0):
    stream = np.random.default_rng(seed)
    rows = stream.normal(size=(images, rank)) @ stream.normal(size=(rank, width)) + mean
    return torch.from_numpy(rows).float()


def seen(*batches):
    covariance = FeatureCovariance()
    for batch in batches:
        covariance.update(batch)
    return covariance


@pytest.mark.parametrize("rank", [1, 3, 7])
def test_all_of_the_variance_lies_in_as_many_components_as_there_are(rank):
    found = seen(low_rank(rank=rank)).rank(variance=1 - 1e-7)
    assert found.components == rank
    assert 1 - 1e-6 <= found.effective <= rank + 1e-6


@pytest.mark.parametrize("mean", [0.0, 1000.0])
def test_covariance_and_rank_are_numpys_however_the_rows_are_split(mean):
    rows = low_rank(rank=7, mean=mean)
    covariance = np.cov(rows.double().numpy().T, bias=True)
    found = seen(*rows.split(64))
    np.testing.assert_allclose(found.covariance().numpy(), covariance, rtol=1e-9, atol=1e-9)
    shares = np.linalg.eigvalsh(covariance)[::-1].clip(0) / np.trace(covariance)
    positive = shares[shares > 0]
    assert found.rank().components == np.argmax(shares.cumsum() >= 0.99) + 1
    assert found.rank().effective == pytest.approx(np.exp(-(positive * np.log(positive)).sum()))
    assert found.scatter.shape == (12, 12)
    assert found.scatter.dtype == torch.float64


def test_equal_shares_count_each_and_an_entropy_of_their_logarithm():
    assert rank_of(torch.ones(8)) == Rank(8, pytest.approx(8.0))
    assert rank_of(torch.tensor([0.0, 0.99, 0.01])) == Rank(
        1, pytest.approx(math.exp(-0.99 * math.log(0.99) - 0.01 * math.log(0.01)))
    )
    assert rank_of(torch.tensor([0.98, 0.011, 0.009])).components == 2


def test_where_nothing_varies_the_rank_is_0_and_nothing_has_none():
    for rows in (torch.ones(1, 4), torch.full((6, 4), 0.3), torch.zeros(5, 4)):
        assert seen(*rows.split(2)).rank() == Rank(0, 0.0)
    assert seen(torch.randn(2, 9)).rank().components == 1
    assert seen(torch.empty(0, 4)).rank() is None


def test_batches_with_and_without_inference_mode_follow_each_other():
    rows, covariance = low_rank(), FeatureCovariance()
    with torch.inference_mode():
        covariance.update(rows[:50])
    covariance.update(rows[50:])
    torch.testing.assert_close(covariance.covariance(), seen(rows).covariance())


def test_features_that_are_not_finite_have_no_rank():
    rows = low_rank()
    rows[3, 5] = math.nan
    assert all(math.isnan(value) for value in seen(rows).rank())
