import pytest
import torch
from torch.nn import functional as F

from deitlt.transforms import IMAGENET, TeacherInput, denormalise
from deitlt.transforms.teacher_input import renormaliser
from deitlt.types import Normalisation

CIFAR = Normalisation((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))


def test_antialiasing_matters_where_an_image_shrinks_and_is_off_as_in_the_authors_environment():
    x = torch.randn(2, 3, 56, 56)
    sharp, smooth = TeacherInput(8)(x), TeacherInput(8, antialias=True)(x)
    assert sharp.shape == smooth.shape == (2, 3, 8, 8)
    assert smooth.std() < 0.5 * sharp.std()  # averages of noise are small, samples of it are not
    torch.testing.assert_close(sharp, F.interpolate(x, (8, 8), mode="bicubic", antialias=False))
    torch.testing.assert_close(smooth, F.interpolate(x, (8, 8), mode="bicubic", antialias=True))


@pytest.mark.parametrize(("height", "width"), [(64, 32), (32, 64), (16, 16)])
def test_every_shape_becomes_the_teachers_and_half_precision_is_resized_in_full(height, width):
    x = torch.randn(1, 3, height, width).bfloat16()
    assert TeacherInput(32)(x).shape == (1, 3, 32, 32)
    assert torch.equal(TeacherInput(32)(x), TeacherInput(32)(x.float()))


def test_images_of_the_teachers_size_are_left_alone():
    x = torch.randn(2, 3, 32, 32)
    assert TeacherInput(32)(x) is x
    assert TeacherInput(32, student=IMAGENET)(x) is x


def test_renormalised_pixels_are_the_same_pixels_there_and_back():
    pixels = torch.rand(2, 3, 8, 8)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (IMAGENET.mean, IMAGENET.std))
    there = TeacherInput(8, student=IMAGENET, teacher=CIFAR)((pixels - mean) / std)
    torch.testing.assert_close(denormalise(there, CIFAR), pixels)
    torch.testing.assert_close(renormaliser(CIFAR, IMAGENET)(there), (pixels - mean) / std)
