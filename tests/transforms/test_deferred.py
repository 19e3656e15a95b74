import numpy as np
import pytest
import torch
from PIL import Image

from deitlt.data.images import ArrayImages
from deitlt.data.loading import DeferredTransform, TrainingImages, make_delivery, make_loader
from deitlt.data.samplers import SampleKey
from deitlt.transforms import IMAGENET, student_transform, weak_transform
from deitlt.transforms.deferred import Normalise

CPU = torch.device("cpu")
NEEDS_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
IMAGES = ArrayImages(np.random.default_rng(0).integers(0, 256, (6, 40, 48, 3), dtype=np.uint8), [0, 1, 2, 0, 1, 2])
KEYS = [SampleKey(0, index % 6, index // 6) for index in range(48)]


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("erasing", [0.0, 0.5, 1.0])
def test_a_batch_that_is_finished_on_its_device_is_that_of_its_images_bit_for_bit(erasing, num_workers):
    transform = student_transform(32, IMAGENET, erasing=erasing)
    assert isinstance(transform, DeferredTransform)
    delivery = make_delivery(IMAGES, transform, False, CPU, seed=3, rank=1)
    travelled, _ = next(iter(make_loader(delivery.samples, KEYS, len(KEYS), num_workers, collate=delivery.collate)))
    levels, erased, noise = travelled
    assert levels.dtype == torch.uint8
    assert (erasing == 0) == (len(erased) == 0) == (len(noise) == 0)
    plain = TrainingImages(IMAGES, transform, seed=3, rank=1)
    expected = torch.stack([plain[key][0] for key in KEYS])
    assert torch.equal(delivery.finish(travelled, CPU, np.random.default_rng(0)), expected)


def test_the_weak_transform_is_deferred_too():
    transform = weak_transform(32, IMAGENET, padding=0, flip=0.0)
    pictures = [IMAGES[0], IMAGES[1]]
    found = transform.on_device(transform.collate([transform.in_worker(picture) for picture in pictures]))
    assert torch.equal(found, torch.stack([transform(picture) for picture in pictures]))


@pytest.mark.parametrize("divide", [True, False])
@pytest.mark.parametrize("device", [CPU, pytest.param("cuda", marks=NEEDS_GPU)])
def test_a_table_normalises_as_arithmetic_does(divide, device):
    levels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(2, 3, 16, 16).contiguous()
    scaled = levels.float() / 255 if divide else levels.float() * (1 / 255)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (IMAGENET.mean, IMAGENET.std))
    found = Normalise(IMAGENET, divide)
    assert torch.equal(found.batch(levels.to(device)).cpu(), (scaled - mean) / std)
    picture = Image.fromarray(levels[0].permute(1, 2, 0).numpy())
    assert torch.equal(found(picture), found.batch(levels)[0])
