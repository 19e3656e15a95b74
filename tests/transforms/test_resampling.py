import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.functional import resized_crop

from deitlt.transforms.batch_crops import NOWHERE, Axis, resample, resampling_matrix

MODES = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
BOXES = [(0, 0, 24, 32), (3, 5, 7, 9), (10, 20, 14, 12), (23, 31, 1, 1), (0, 7, 24, 3)]  # top, left, height, width


def axis(start, length, size):
    step = length / size
    centres = start + (np.arange(size)[None] + 0.5) * step
    return Axis(centres, np.array([max(step, 1.0)]), np.array([float(start)]), np.array([float(start + length)]))


def cropped(picture, box, size, mode):
    top, left, height, width = box
    image = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None]
    axes = np.stack([a.packed() for a in (axis(top, height, size), axis(left, width, size))])
    return resample(image, torch.from_numpy(axes), mode)[0].permute(1, 2, 0).numpy()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", [5, 16, 31, 64])
@pytest.mark.parametrize("box", BOXES)
def test_a_crop_is_pillows_but_for_rounding(picture, mode, size, box):
    expected = np.asarray(resized_crop(picture, *box, (size, size), MODES[mode])).astype(int)
    difference = np.abs(cropped(picture, box, size, mode) - expected)
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.03


def test_levels_are_whole_and_in_range(picture):
    levels = cropped(picture, (2, 3, 9, 8), 40, "bicubic")
    assert levels.dtype == np.float32
    assert (levels == np.rint(levels)).all()
    assert levels.min() >= 0
    assert levels.max() <= 255


def test_each_sample_has_its_own_box(picture):
    image = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].repeat(2, 1, 1, 1)
    axes = [[axis(start, length, 12) for start, length in ends] for ends in (((0, 24), (5, 8)), ((0, 32), (9, 6)))]
    packed = np.stack([np.concatenate([a.packed() for a in pair]) for pair in axes])
    both = resample(image, torch.from_numpy(packed), "bicubic").permute(0, 2, 3, 1).numpy()
    assert (both[0] == cropped(picture, (0, 0, 24, 32), 12, "bicubic")).all()
    assert (both[1] == cropped(picture, (5, 9, 8, 6), 12, "bicubic")).all()


@pytest.mark.parametrize("mode", MODES)
def test_weights_sum_to_one_and_to_nothing_outside(mode):
    places = axis(2, 6, 5)
    places.centres[0, [0, 4]] = NOWHERE
    weights = resampling_matrix(torch.from_numpy(places.packed()), 10, mode)
    torch.testing.assert_close(weights.sum(-1), torch.tensor([[0.0, 1, 1, 1, 0]]))
    assert (weights[..., :2] == 0).all()
    assert (weights[..., 8:] == 0).all()


def test_an_image_at_its_own_size_stays_as_it_is(picture):
    square = picture.crop((0, 0, 24, 24))
    assert (cropped(square, (0, 0, 24, 24), 24, "bicubic") == np.asarray(square)).all()
