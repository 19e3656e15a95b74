import random

import numpy as np
import pytest
import torch
from timm.data.random_erasing import RandomErasing as TimmErasing

from deitlt.data.images import ArrayImages
from deitlt.data.loading import TrainingImages, make_delivery, make_loader
from deitlt.data.samplers import SampleKey
from deitlt.transforms import IMAGENET, student_transform, weak_transform
from deitlt.transforms.deferred import DeferredTransform, Normalise, RandomErasing

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
def test_levels_are_normalised_to_the_last_bit_on_every_device(divide, device):
    levels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(2, 3, 16, 16).contiguous()
    scaled = levels.float() / 255 if divide else levels.float() * (1 / 255)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (IMAGENET.mean, IMAGENET.std))
    assert torch.equal(Normalise(IMAGENET, divide)(levels.to(device)).cpu(), (scaled - mean) / std)


def test_erasing_is_timms_draw_for_draw():
    ours, theirs = RandomErasing(0.5), TimmErasing(0.5, mode="pixel", max_count=1, device="cpu")
    for seed in range(200):
        height, width = ((3, 4), (16, 16), (24, 32))[seed % 3]
        random.seed(seed), torch.manual_seed(seed)
        expected = theirs(torch.zeros(3, height, width))
        random.seed(seed), torch.manual_seed(seed)
        found, patch = torch.zeros(3, height, width), ours.draw(height, width)
        if patch is not None:
            rows, columns = patch.noise.shape[1:]
            found[:, patch.top : patch.top + rows, patch.left : patch.left + columns] = patch.noise
        assert torch.equal(found, expected)
