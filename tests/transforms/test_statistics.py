import torch

from deitlt.transforms import IMAGENET, denormalise


def test_denormalised_pixels_lie_between_zero_and_one():
    pixels = torch.rand(2, 3, 4, 4)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (IMAGENET.mean, IMAGENET.std))
    torch.testing.assert_close(denormalise((pixels - mean) / std, IMAGENET), pixels)
    torch.testing.assert_close(denormalise(((pixels - mean) / std)[0], IMAGENET), pixels[0])
    extremes = denormalise(torch.tensor([-100.0, 100.0]).view(2, 1, 1, 1).expand(2, 3, 1, 1), IMAGENET)
    assert extremes.flatten(1).tolist() == [[0.0] * 3, [1.0] * 3]


def test_imagenets_statistics():
    assert IMAGENET.mean == (0.485, 0.456, 0.406)
    assert IMAGENET.std == (0.229, 0.224, 0.225)
