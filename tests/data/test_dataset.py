import contextlib
import random

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from deitlt.data.images import ArrayImages
from deitlt.data.loading import EvaluationImages, TrainingImages, isolated_rng
from deitlt.data.samplers import EvaluationSampler, FullRepeatedAugmentationSampler, KeyedSampler, SampleKey
from deitlt.types import IGNORED

SOURCE = ArrayImages(np.zeros((8, 2, 2, 3), np.uint8), np.arange(8) % 3)


def draw_all(image):
    """A view that is one number from each of the three streams."""
    return torch.tensor([random.random(), np.random.random(), torch.rand(()).item()], dtype=torch.float64)


def mean_colour(image):
    return torch.tensor(np.asarray(image).mean((0, 1)))


def batches(num_workers, context=None):
    sampler = KeyedSampler(FullRepeatedAugmentationSampler(SOURCE, 1, 0, num_repeats=2))
    sampler.set_epoch(4)
    data = TrainingImages(SOURCE, draw_all, seed=1, rank=0)
    loader = DataLoader(data, batch_size=3, sampler=sampler, num_workers=num_workers, multiprocessing_context=context)
    views, targets = zip(*loader, strict=True)
    return torch.cat(views), torch.cat(targets)


@pytest.mark.parametrize("context", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_views_are_the_same_with_and_without_workers(context):
    alone, targets = batches(0)
    shared, same_targets = batches(2, context)
    assert torch.equal(alone, shared)
    assert torch.equal(targets, same_targets)
    assert len(alone.unique(dim=0)) == 16


def test_views_do_not_depend_on_the_global_streams_nor_move_them():
    data = TrainingImages(SOURCE, draw_all, seed=0, rank=0)

    def around():
        random.seed(5), np.random.seed(5), torch.manual_seed(5)
        before = draw_all(None)
        view, _ = data[SampleKey(0, 3, 0)]
        return before, view, draw_all(None)

    random.seed(5), np.random.seed(5), torch.manual_seed(5)
    undisturbed = torch.stack([draw_all(None), draw_all(None)])
    before, view, after = around()
    assert torch.equal(torch.stack([before, after]), undisturbed)
    torch.manual_seed(99)
    assert torch.equal(data[SampleKey(0, 3, 0)][0], view)


def test_each_part_of_the_key_gives_other_numbers_in_each_stream():
    def view(seed, rank, *draw):
        return TrainingImages(SOURCE, draw_all, seed, rank)[SampleKey(*draw)][0]

    keys = [
        (0, 0, 0, 0, 0),
        (1, 0, 0, 0, 0),
        (0, 1, 0, 0, 0),
        (0, 0, 1, 0, 0),
        (0, 0, 0, 1, 0),
        (0, 0, 0, 0, 1),
    ]
    views = torch.stack([view(*key) for key in keys])
    assert [len(stream.unique()) for stream in views.T] == [6, 6, 6]


def test_streams_are_put_back_after_an_error():
    random.seed(1)
    expected = random.random()
    random.seed(1)
    with contextlib.suppress(RuntimeError), isolated_rng(1):
        random.random()
        raise RuntimeError
    assert random.random() == expected


def test_evaluated_images_mark_what_only_fills_up():
    data = EvaluationImages(SOURCE, mean_colour)
    assert data[3, True][1] == 0
    assert data[3, False][1] == IGNORED
    loader = DataLoader(data, batch_size=2, sampler=EvaluationSampler(SOURCE, 3, 2))
    assert torch.cat([targets for _, targets in loader]).tolist() == [2, 2, IGNORED]
