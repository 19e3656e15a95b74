import numpy as np
import pytest
import torch
from PIL import Image

from deitlt.transforms.image import Cutout


def cut_squares(share, size, n=1500):
    torch.manual_seed(0)
    cutout, white = Cutout(share), Image.new("RGB", (size, size), (255, 255, 255))
    return [torch.from_numpy(np.asarray(cutout(white))[..., 0] == 0) for _ in range(n)]


def test_one_square_of_16_pixels_cut_off_by_the_border():
    squares = cut_squares(0.5, 32)
    heights = [int(mask.any(1).sum()) for mask in squares]
    widths = [int(mask.any(0).sum()) for mask in squares]
    assert set(heights) == set(widths) == set(range(8, 17))
    assert all(int(mask.sum()) == h * w for mask, h, w in zip(squares, heights, widths, strict=True))


def test_the_centre_is_uniform_over_the_image():
    squares = torch.stack(cut_squares(0.5, 32)).float()
    # Of 32 centres, a side's mean length is 14 pixels: 17 whole ones, 8 to 15 at one border and 9 to 15 at the other.
    assert squares.mean() == pytest.approx((14 / 32) ** 2, abs=0.008)
    # A pixel in the middle is cut by 16 of 32 centres in each direction; the corners by 8 and 9.
    assert squares[:, 16, 16].mean() == pytest.approx(0.25, abs=0.04)
    assert squares[:, 0, 0].mean() == pytest.approx((9 / 32) ** 2, abs=0.03)
    assert squares[:, -1, -1].mean() == pytest.approx((8 / 32) ** 2, abs=0.03)


def test_the_square_goes_with_the_image():
    sides = {int(mask.any(0).sum()) for mask in cut_squares(0.5, 16, 300)}
    assert sides == set(range(4, 9))


def test_all_channels_lose_the_same_and_the_image_that_came_in_nothing():
    torch.manual_seed(0)
    image = torch.randint(1, 255, (3, 20, 28), dtype=torch.uint8)
    picture = Image.fromarray(image.permute(1, 2, 0).numpy())
    cut = torch.from_numpy(np.array(Cutout(0.4)(picture))).permute(2, 0, 1)
    assert np.array_equal(np.asarray(picture), image.permute(1, 2, 0))
    gone = cut == 0
    assert torch.equal(gone[0], gone[1])
    assert torch.equal(gone[0], gone[2])
    assert torch.equal(cut[~gone], image[~gone])


def test_a_share_of_zero_cuts_nothing():
    assert not np.any([mask.any() for mask in cut_squares(0.0, 16, 20)])
