import numpy as np
import pytest
import torch

from deitlt.data.completion import check_teacher_sees, training_batch
from deitlt.errors import ConfigError
from deitlt.transforms import Mixup

B, C = 6, 10
TARGETS = torch.tensor([0, 3, 3, 9, 1, 4])


def views(sizes, seed=0):
    stream = torch.Generator().manual_seed(seed)
    return [torch.rand(B, 3, size, size, generator=stream) for size in sizes]


def complete(sizes, mixing=None, teacher_input=None, teacher_sees="both", seed=0):
    return training_batch(views(sizes), TARGETS, mixing, teacher_input, teacher_sees, np.random.default_rng(seed))


def halve(images):
    return images[..., ::2, ::2]


def test_one_crop_is_one_part():
    batch = training_batch(views([8])[0], TARGETS, None, halve, "both", np.random.default_rng(0))
    assert batch.parts == (batch,)
    assert batch.crops == 1
    assert torch.equal(batch.images, views([8])[0])
    assert torch.equal(batch.teacher_images, halve(batch.images))


def test_views_of_one_size_follow_each_other_with_their_targets():
    batch = complete([8, 8])
    assert torch.equal(batch.images, torch.cat(views([8, 8])))
    assert batch.targets.tolist() == TARGETS.tolist() * 2
    assert batch.local is None


def test_smaller_views_are_local_crops():
    batch = complete([8, 8, 4, 4, 4])
    assert batch.images.shape == (2 * B, 3, 8, 8)
    assert batch.local.images.shape == (3 * B, 3, 4, 4)
    assert batch.local.targets.tolist() == TARGETS.tolist() * 3
    assert [(len(part.images), part.crops) for part in batch.parts] == [(2 * B, 2), (3 * B, 3)]


@pytest.mark.parametrize("sees", ["both", "global"])
def test_the_teachers_input_is_made_of_every_crop_or_of_global_ones(sees):
    batch = complete([8, 8, 4, 4], teacher_input=halve, teacher_sees=sees)
    assert torch.equal(batch.teacher_images, halve(batch.images))
    if sees == "both":
        assert torch.equal(batch.local.teacher_images, halve(batch.local.images))
    else:
        assert batch.local.teacher_images is None


def test_local_crops_are_mixed_as_the_global_ones_with_the_same_partners():
    batch = complete([8, 8, 4, 4, 4], Mixup(C, cutmix=0.0, smoothing=0.0), seed=3)
    torch.testing.assert_close(batch.local.targets[:B], batch.targets[:B])
    torch.testing.assert_close(batch.local.targets[B : 2 * B], batch.targets[B:])
    kept = float(batch.targets[0, 0])
    assert 0 < kept < 1
    local = torch.cat(views([8, 8, 4, 4, 4])[2:])
    torch.testing.assert_close(batch.local.images, kept * local + (1 - kept) * local.flip(0))


def test_the_same_stream_completes_the_same_batch():
    first, again, other = (complete([8, 4], Mixup(C), seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first.local.images, again.local.images)
    assert not torch.equal(first.images, other.images)


def test_another_choice_of_what_the_teacher_sees_is_refused():
    with pytest.raises(ConfigError, match=r"student\.transforms\.teacher_sees=all is no choice; type =global or =both"):
        check_teacher_sees("all")
