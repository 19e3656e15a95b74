import random

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data.transforms import RandomResizedCropAndInterpolation
from torchvision.transforms import functional as TF

from deitlt.transforms import CropFlip
from deitlt.transforms.batch_crops import NOWHERE, Axis, crop_axes, draw_boxes, resample, resampling_matrix

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
    expected = np.asarray(TF.resized_crop(picture, *box, (size, size), MODES[mode])).astype(int)
    levels = cropped(picture, box, size, mode)
    assert levels.dtype == np.float32
    assert (levels == np.rint(levels)).all()
    difference = np.abs(levels - expected)
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.03


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


# Crops that are drawn

SIZE = 16


def crops(picture, crop, batch, flipped=False, padding=3, seed=0, scale=(0.08, 1.0)):
    image = torch.from_numpy(np.array(picture)).permute(2, 0, 1)
    size = (image.shape[1], image.shape[2])
    mirrored = np.full(batch, flipped)
    axes = crop_axes(CropFlip(crop, scale, padding), size, SIZE, mirrored, np.random.default_rng(seed))
    packed = torch.from_numpy(np.stack([axis.packed() for axis in axes]))
    images = image.expand(batch, -1, -1, -1)
    return resample(images, packed, "bicubic").permute(0, 2, 3, 1).numpy()


def all_shifts(resized, padding, mode):
    """Every crop that torchvision's RandomCrop may take of a picture."""
    padded = np.asarray(TF.pad(resized, padding, padding_mode=mode)).astype(int)
    rows, columns = (side - SIZE + 1 for side in padded.shape[:2])
    return [padded[top : top + SIZE, left : left + SIZE] for top in range(rows) for left in range(columns)]


@pytest.mark.parametrize("flipped", [False, True])
def test_a_resized_crop_is_the_box_that_was_drawn(picture, flipped):
    boxes = draw_boxes((24, 32), (0.08, 1.0), 20, np.random.default_rng(0))
    for box, found in zip(boxes.tolist(), crops(picture, "resized", 20, flipped), strict=True):
        expected = TF.resized_crop(picture, *box, (SIZE, SIZE), TF.InterpolationMode.BICUBIC)
        expected = TF.hflip(expected) if flipped else expected
        assert np.abs(found - np.asarray(expected).astype(int)).max() <= 1


@pytest.mark.parametrize(("crop", "mode"), [("padded", "constant"), ("simple", "reflect")])
@pytest.mark.parametrize("flipped", [False, True])
def test_a_shifted_crop_is_one_of_torchvisions(picture, crop, mode, flipped):
    target = SIZE if crop == "simple" else (SIZE, SIZE)
    resized = TF.resize(picture, target, TF.InterpolationMode.BICUBIC)
    shifts = np.stack(all_shifts(resized, 3, mode))
    shifts = shifts[:, :, ::-1] if flipped else shifts
    taken = set()
    for found in crops(picture, crop, 600, flipped):
        worst = np.abs(shifts - found).max(axis=(1, 2, 3))
        assert worst.min() <= 1
        taken.add(int(worst.argmin()))
    assert len(taken) == len(shifts)  # and each of them is drawn


def test_shifts_are_drawn_evenly():
    dot = np.zeros((SIZE, SIZE, 3), np.uint8)
    dot[8, 8] = 255
    places = crops(Image.fromarray(dot), "padded", 3000)[..., 0].reshape(3000, -1).argmax(axis=1)
    rows, columns = np.divmod(places, SIZE)
    for place in (rows, columns):
        counts = np.bincount(place, minlength=SIZE)[5:12]
        assert counts.sum() == 3000
        assert np.abs(counts - 3000 / 7).max() < 4 * (3000 / 7) ** 0.5


@pytest.mark.parametrize("source", [(32, 32), (30, 40), (90, 30)])
@pytest.mark.parametrize("scale", [(0.08, 1.0), (0.5, 0.6)])
def test_boxes_are_distributed_as_timms(assert_one_distribution, source, scale):
    random.seed(0)
    picture = Image.new("RGB", (source[1], source[0]))
    made = RandomResizedCropAndInterpolation(32, scale)
    theirs = np.array([made.get_params(picture, made.scale, made.ratio) for _ in range(4000)])
    ours = draw_boxes(source, scale, 4000, np.random.default_rng(1))
    assert (ours >= 0).all()
    assert (ours[:, :2] + ours[:, 2:] <= source).all()
    for a, b in zip(ours.T, theirs.T, strict=True):
        assert_one_distribution(a, b)
    assert_one_distribution(ours[:, 2] * ours[:, 3], theirs[:, 2] * theirs[:, 3])
    assert_one_distribution(ours[:, 3] / ours[:, 2], theirs[:, 3] / theirs[:, 2])
