import random

import numpy as np
import pytest
import torch
from timm.data.random_erasing import RandomErasing

from deitlt.transforms.batch import Rectangles, draw_rectangles, erase

DRAWS = 3000


def timms_boxes(size):
    random.seed(0), torch.manual_seed(0)
    erasing = RandomErasing(0.25, mode="pixel", device="cpu")
    boxes = []
    for _ in range(DRAWS):
        mask = erasing(torch.zeros(1, *size))[0] != 0
        if mask.any():
            rows, columns = (mask.any(axis).nonzero().flatten() for axis in (1, 0))
            boxes.append([int(rows[0]), int(columns[0]), len(rows), len(columns)])
    return np.array(boxes)


@pytest.mark.parametrize("size", [(32, 32), (20, 28)])
def test_rectangles_are_distributed_as_timms(agree, size):
    theirs, ours = timms_boxes(size), draw_rectangles(0.25, size, DRAWS, np.random.default_rng(1))
    assert abs(len(ours.samples) - len(theirs)) < 4 * (2 * DRAWS * 0.25 * 0.75) ** 0.5
    for a, b in zip(ours.boxes.T, theirs.T, strict=True):
        agree(a, b)
    agree(*(boxes[:, 2] * boxes[:, 3] for boxes in (ours.boxes, theirs)))
    agree(*(boxes[:, 2] / boxes[:, 3] for boxes in (ours.boxes, theirs)))


def test_noise_is_in_the_rectangles_and_nowhere_else():
    boxes = np.array([[1, 2, 3, 4], [0, 0, 7, 7], [5, 4, 3, 4]])
    images = torch.full((5, 3, 8, 8), 9.0)
    erase(images, Rectangles(np.array([0, 2, 3]), boxes), torch.Generator().manual_seed(0))
    for sample, (top, left, height, width) in zip((0, 2, 3), boxes, strict=True):
        assert (images[sample] != 9).sum() == 3 * height * width
        assert (images[sample, :, top : top + height, left : left + width] != 9).all()
    assert (images[[1, 4]] == 9).all()


def test_noise_is_standard_normal_in_each_colour():
    images = torch.zeros(40, 3, 40, 40)
    boxes = np.tile([[0, 0, 40, 40]], (40, 1))
    erase(images, Rectangles(np.arange(40), boxes), torch.Generator().manual_seed(0))
    assert images.mean().abs() < 0.01
    assert images.std() == pytest.approx(1, abs=0.01)
    assert torch.corrcoef(images.transpose(0, 1).flatten(1)).fill_diagonal_(0).abs().max() < 0.02


@pytest.mark.parametrize(("probability", "least", "most"), [(0.0, 0, 0), (1.0, 200, 200)])
def test_probabilities_that_leave_no_chance(probability, least, most):
    rectangles = draw_rectangles(probability, (32, 32), 200, np.random.default_rng(0))
    assert least <= len(rectangles.samples) <= most
    images = torch.zeros(200, 3, 32, 32)
    erase(images, rectangles, torch.Generator())
    assert int((images != 0).any(dim=1).sum()) == int(rectangles.boxes[:, 2:].prod(axis=1).sum())
