import numpy as np
import pytest
import torch

from deitlt.data import LongTailDataModule
from deitlt.data.samplers import choose_evenly


@pytest.mark.parametrize(("images", "expected"), [(3, [1, 1, 1]), (5, [2, 2, 1]), (7, [4, 2, 1]), (99, [40, 2, 1])])
def test_rare_classes_are_chosen_whole_before_frequent_ones_have_more(images, expected):
    labels = np.repeat([0, 1, 2], [40, 2, 1])
    chosen = choose_evenly(labels, images, seed=3)
    assert len(set(chosen.tolist())) == len(chosen) == sum(expected)
    assert np.bincount(labels[chosen]).tolist() == expected


def test_batches_are_the_chosen_images_as_evaluation_sees_them_and_move_no_stream():
    datamodule = LongTailDataModule.from_keys("digits", image_size=16, max_count=20, imbalance_factor=0.1)
    source, chosen = datamodule.splits.test, np.array([7, 3, 11])
    torch.manual_seed(5)
    expected = torch.rand(2)
    torch.manual_seed(5)
    batches = list(datamodule.evaluation_batches(source, chosen, batch_size=2))
    assert torch.equal(torch.rand(2), expected)
    assert [len(images) for images, _ in batches] == [2, 1]
    view = datamodule.evaluation_transform()
    assert torch.equal(batches[1][0][0], view(source[11]))
    assert torch.cat([labels for _, labels in batches]).tolist() == source.labels[chosen].tolist()
