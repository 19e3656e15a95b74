import numpy as np
import pytest
import torch
from PIL import Image

from deitlt.transforms import IMAGENET, denormalise, evaluation_transform
from deitlt.types import Normalisation

PLAIN = Normalisation((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def test_scales_to_256_and_keeps_the_middle_224():
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (300, 500, 3)).astype(np.uint8))
    view = evaluation_transform(224, IMAGENET, crop_share=0.875)(picture)
    scaled = np.asarray(picture.resize((int(500 * 256 / 300), 256), Image.Resampling.BICUBIC))
    left = round((scaled.shape[1] - 224) / 2)
    expected = torch.from_numpy(scaled[16:240, left : left + 224] / 255).permute(2, 0, 1).float()
    torch.testing.assert_close(denormalise(view, IMAGENET), expected, rtol=0, atol=2e-3)


def test_an_image_of_the_size_stays_as_it_is(picture):
    square = picture.crop((0, 0, 24, 24))
    view = evaluation_transform(24, PLAIN)(square)
    assert torch.equal(view, torch.from_numpy(np.asarray(square) / 255).permute(2, 0, 1).float())


@pytest.mark.parametrize("size", [8, 32, 50])
@pytest.mark.parametrize("share", [1.0, 0.875])
def test_size_and_no_chance(picture, size, share):
    view = evaluation_transform(size, IMAGENET, share)
    assert view(picture).shape == (3, size, size)
    assert torch.equal(view(picture), view(picture))
