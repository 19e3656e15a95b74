import numpy as np
import torch
from PIL import Image

from deitlt.transforms import IMAGENET, denormalise, weak_transform
from deitlt.types import Normalisation

PLAIN = Normalisation((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def test_shifts_by_up_to_the_padding_and_fills_with_black():
    torch.manual_seed(0)
    white = Image.new("RGB", (8, 8), (255, 255, 255))
    views = [weak_transform(8, PLAIN, padding=2, flip=0.0)(white) for _ in range(300)]
    rows = {int(x[0].any(1).sum()) for x in views}
    assert rows == {6, 7, 8}
    dot = np.zeros((8, 8, 3), np.uint8)
    dot[4, 4] = 255
    view = weak_transform(8, PLAIN, padding=2, flip=0.0)
    places = {tuple(view(Image.fromarray(dot))[0].nonzero()[0].tolist()) for _ in range(300)}
    assert places == {(row, column) for row in range(2, 7) for column in range(2, 7)}


def test_flips_as_often_as_asked(picture):
    torch.manual_seed(0)

    def mirrored(flip):
        view = weak_transform(24, PLAIN, padding=0, flip=flip)
        return sum(bool(x[0, 12, -1] < x[0, 12, 0]) for x in (view(picture) for _ in range(200)))

    assert mirrored(0.0) == 0
    assert mirrored(1.0) == 200
    assert 60 < mirrored(0.5) < 140


def test_changes_nothing_but_place_and_size(picture):
    view = weak_transform(32, IMAGENET, padding=0, flip=0.0)(picture)
    assert view.shape == (3, 32, 32)
    assert type(view) is torch.Tensor
    scaled = picture.resize((32, 32), Image.Resampling.BICUBIC)
    expected = torch.from_numpy(np.asarray(scaled) / 255).permute(2, 0, 1).float()
    torch.testing.assert_close(denormalise(view, IMAGENET), expected, rtol=0, atol=1e-3)
