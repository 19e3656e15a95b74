"""Every choice of `teacher/transforms` and `student/transforms`, as its file has it, on images of every kind."""

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf
from PIL import Image

from deitlt.config.compose import config_dir
from deitlt.data.loading import isolated_rng
from deitlt.transforms import IMAGENET, BatchTransform

FILES = [path for kind in ("teacher", "student") for path in config_dir().glob(f"{kind}/transforms/*.yaml")]
CHOICES = [(path.parts[-3], path.stem) for path in FILES]
CROPS = {"paco_cifar": 2, "paco_weak": 2, "paco_imagenet": 2, "multicrop": 6}


def transform_of(kind, name, image_size, *words):
    local = [f"student.transforms.train.local_size={image_size // 2}"] if name == "multicrop" else []
    choice = [f"{kind}/transforms={name}", "paths.output_dir=here", *words, *local]
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        made = OmegaConf.to_container(compose("train", overrides=choice)[kind].transforms, resolve=True)
    made = instantiate(made["train"], _convert_="all")(image_size=image_size, normalisation=IMAGENET)
    if isinstance(made, BatchTransform):
        return lambda picture: (of_a_batch(made, picture),)
    return lambda picture: several if isinstance(several := made(picture), tuple) else (several,)


def of_a_batch(transform, picture):
    """A batch transform of one picture, its draws from the streams that transforms in workers draw from."""
    images = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None]
    return transform(images, np.random.default_rng(int(torch.randint(2**31, ()))))[0]


@pytest.mark.parametrize(("kind", "name"), CHOICES)
@pytest.mark.parametrize(("experiment", "image_size"), [("digits", 16), ("folder_cpu", 32)])
def test_every_choice_goes_with_every_data_set(kind, name, experiment, image_size):
    transform = transform_of(kind, name, image_size, f"experiment={experiment}")
    grey = Image.linear_gradient("L").resize((20, 28)).convert("RGB")
    expected = [image_size] * min(CROPS.get(name, 1), 2) + [image_size // 2] * (CROPS.get(name, 1) - 2)
    for draw in range(3):
        with isolated_rng(0, draw):
            crops = transform(grey)
        assert [tuple(x.shape) for x in crops] == [(3, size, size) for size in expected]
        assert all(x.isfinite().all() and x.dtype == torch.float32 for x in crops)
        assert all(type(x) is torch.Tensor for x in crops)


@pytest.mark.parametrize(("kind", "name"), CHOICES)
def test_a_transform_depends_on_its_own_streams_alone(kind, name, picture):
    transform = transform_of(kind, name, 32, "experiment=cifar10_lt_if100")

    def draw(*key):
        with isolated_rng(*key):
            return transform(picture)

    first = draw(0, 1)
    torch.manual_seed(5)
    draw(0, 7)
    assert all(torch.equal(a, b) for a, b in zip(first, draw(0, 1), strict=True))
    others = [draw(0, key) for key in range(2, 6)]
    assert any(not torch.equal(first[0], other[0]) for other in others)


@pytest.mark.parametrize(("kind", "name"), [("teacher", "paco_cifar"), ("teacher", "paco_imagenet")])
def test_a_recipes_flip_and_padding_reach_both_transforms(kind, name):
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        config = compose("train", overrides=["paths.output_dir=here", "experiment=digits", f"{kind}/transforms={name}"])
    train = config[kind].transforms.train
    assert (train.flip, train.padding) == (0.0, 2)
    assert "flip" not in train.first
    assert "flip" not in train.second
