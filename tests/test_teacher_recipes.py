"""Each teacher's recipe has the numbers that were published, composes from its own experiment, and trains."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from deitlt.config.compose import config_dir
from deitlt.data import list_datasets, register_dataset
from deitlt.data.datasets import CIFAR_NORMALISATION, DatasetSpec, DataSplits
from deitlt.data.images import ArrayImages
from deitlt.engine.build import build_data, build_module
from deitlt.engine.checks import check_run, rehearse
from deitlt.engine.run_folder import RunFolder
from deitlt.engine.stage_config import make_stage, plain
from deitlt.errors import ConfigError
from deitlt.modules import PaCoTeacherModule, TeacherModule

CONF = config_dir()
RECIPES = sorted(path.stem for path in (CONF / "experiment" / "teacher").glob("*.yaml"))
PACO_CIFAR = {
    "module._target_": "deitlt.modules.PaCoTeacherModule",
    "model.name": "cifar_resnet32",
    "model.dim": 32,
    "model.queue_size": 1024,
    "model.momentum": 0.999,
    "loss.alpha": 0.01,
    "loss.beta": 1.0,
    "loss.gamma": 1.0,
    "loss.temperature": 0.05,
    "epochs": 400,
    "images_per_update": 128,
    "optimizer.lr": 0.05,
    "optimizer.momentum": 0.9,
    "optimizer.weight_decay": 5e-4,
    "drw": None,
    "statistics": "own",
    "transforms.train._target_": "deitlt.transforms.paired_transform",
    "transforms.train.first._target_": "deitlt.transforms.auto_augment_transform",
    "transforms.train.second._target_": "deitlt.transforms.simclr_transform",
}
PACO_LARGE = {
    **PACO_CIFAR,
    "model.name": "resnet50",
    "model.dim": 128,
    "model.queue_size": 8192,
    "loss.alpha": 0.05,
    "loss.temperature": 0.2,
    "image_size": 224,
    "optimizer.lr": 0.02,
    "transforms.train.first._target_": "deitlt.transforms.imagenet_transform",
    "transforms.evaluation.crop_share": 0.875,
}
LDAM_CIFAR = {
    "module._target_": "deitlt.modules.TeacherModule",
    "model.name": "cifar_resnet32",
    "model.head": "cosine",
    "loss._target_": "deitlt.losses.LDAMLoss",
    "loss.max_margin": 0.5,
    "loss.scale": 30.0,
    "epochs": 200,
    "drw.start_epoch": 160,
    "sam.rho.value": 0.8,
    "optimizer.weight_decay": 2e-4,
}
LDAM_LARGE = {
    "module._target_": "deitlt.modules.TeacherModule",
    "model.name": "resnet50",
    "model.head": "cosine",
    "loss._target_": "deitlt.losses.LDAMLoss",
    "loss.max_margin": 0.3,
    "loss.scale": 30.0,
    "epochs": 90,
    "images_per_update": 256,
    "image_size": 224,
    "drw.start_epoch": 60,
    "drw.beta": 0.9999,
    "optimizer.lr": 0.2,
    "optimizer.weight_decay": 2e-4,
    "transforms.train._target_": "deitlt.transforms.imagenet_transform",
    "transforms.train.jitter": 0.4,
    "sam.enabled": True,
}
CE_CIFAR = {**LDAM_CIFAR, "loss._target_": "deitlt.losses.CrossEntropyLoss", "model.head": "linear"}
del CE_CIFAR["loss.max_margin"], CE_CIFAR["loss.scale"]
PUBLISHED = {
    "cifar10_ldam_if100": LDAM_CIFAR,
    "cifar100_ldam_if100": LDAM_CIFAR,
    "cifar10_ce_if100": {**CE_CIFAR, "sam.rho.value": 0.5},
    "cifar100_ce_if100": {**CE_CIFAR, "sam.rho.value": 0.8},
    "cifar10_paco_if100": PACO_CIFAR,
    "cifar100_paco_if100": PACO_CIFAR,
    "imagenet_lt_ldam": LDAM_LARGE,
    "imagenet_lt_paco": PACO_LARGE,
    "inat18_ldam": {**LDAM_LARGE, "optimizer.lr": 0.1, "optimizer.weight_decay": 1e-4},
    "inat18_paco": {**PACO_LARGE, "optimizer.weight_decay": 1e-4},
}
# Rates as multiples of the base, and radii, by epoch.
RATES = {
    "cifar10_paco_if100": {0: 0.1, 9: 1, 10: 1.1, 11: 1, 320: 1, 321: 0.1, 360: 0.1, 361: 0.01, 399: 0.01},
    "cifar10_ldam_if100": {0: 0.2, 4: 1, 159: 1, 160: 0.01, 180: 1e-4},
    "imagenet_lt_ldam": {0: 1, 45: 0.5, 89: 0.5 * (1 + np.cos(np.pi * 89 / 90))},
    "inat18_paco": {0: 0.1, 9: 1, 10: 0.5 * (1 + np.cos(np.pi / 391)), 399: 0.5 * (1 + np.cos(np.pi * 390 / 391))},
}
RADII = {"imagenet_lt_ldam": {0: 0.05, 4: 0.05, 5: 0.1, 59: 0.1, 60: 0.5, 75: 0.5, 89: 0.5}}


def composed(recipe, *overrides):
    words = [f"experiment=teacher/{recipe}", f"paths.output_dir={CONF}", *overrides]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("train", overrides=words)


@pytest.fixture(scope="module", autouse=True)
def small_data():
    """Ten classes of 20 to 2 images of 8 pixels that need no file."""
    labels = np.repeat(np.arange(10), range(20, 0, -2))
    images = np.random.default_rng(0).integers(0, 255, (len(labels), 8, 8, 3), dtype=np.uint8)
    source = ArrayImages(images, labels)
    splits = DataSplits(source, source, tuple(f"class {c}" for c in range(10)))
    spec = DatasetSpec("teachers10", lambda _: splits, 32, CIFAR_NORMALISATION, (3, 7), "for these tests")
    if spec.name not in list_datasets():
        register_dataset(spec)


def small_stage(recipe, folder, *overrides):
    sizes = ["teacher.images_per_update=4", "teacher.batch_size=4", "teacher.image_size=32"]
    encoder = [] if recipe.startswith("cifar") else ["teacher.model.name=resnet10t"]
    data = ["data=folder", "data.name=teachers10", "data.root=here", "data.imbalance_factor=null", "data.num_workers=0"]
    config = composed(recipe, *sizes, *encoder, *data, "trainer=cpu", *overrides)
    check_run(config)
    return make_stage(config, RunFolder(folder), "teacher")


def test_every_recipe_is_checked():
    assert sorted(PUBLISHED) == RECIPES


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_has_the_published_numbers(recipe):
    config = composed(recipe)
    assert list(config.stages) == ["teacher"]
    found = {key: OmegaConf.select(config.teacher, key, throw_on_missing=True) for key in PUBLISHED[recipe]}
    assert found == PUBLISHED[recipe]
    data = recipe.split("_")[0] if recipe.startswith("cifar") else recipe.rpartition("_")[0]
    assert config.data.name == data
    assert config.data.imbalance_factor == (0.01 if recipe.startswith("cifar") else None)


@pytest.mark.parametrize("recipe", RATES)
def test_the_learning_rate_of_each_epoch_is_the_published(recipe, tmp_path):
    stage = small_stage(recipe, tmp_path)
    module = build_module(stage, build_data(stage).info)
    rates = {epoch: module.schedule(epoch) / stage.recipe["optimizer"]["lr"] for epoch in RATES[recipe]}
    assert rates == pytest.approx(RATES[recipe], rel=1e-9)


@pytest.mark.parametrize("recipe", RADII)
def test_sams_radius_of_each_epoch_is_the_published(recipe):
    from deitlt.engine.build import make

    rho = make(plain(composed(recipe).teacher.sam)["rho"])
    assert {epoch: rho(epoch) for epoch in RADII[recipe]} == RADII[recipe]


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_trains_on_one_batch(recipe, tmp_path):
    stage = small_stage(recipe, tmp_path)
    datamodule = build_data(stage)
    module = build_module(stage, datamodule.info)
    assert isinstance(module, PaCoTeacherModule if "paco" in recipe else TeacherModule)
    travelled, targets = next(iter(datamodule.train_dataloader()))
    images = datamodule.transformed(travelled, targets.device, np.random.default_rng(0))
    batch = datamodule.complete(images, targets, np.random.default_rng(0))
    assert len(batch.images) == (8 if "paco" in recipe else 4)
    loss = module.training_step(batch, 0)
    loss.backward()
    assert torch.isfinite(loss)
    assert all(p.grad is not None for p in module.network.parameters() if p.requires_grad)


def test_a_queue_smaller_than_an_update_is_refused_before_training(tmp_path):
    stage = small_stage("cifar10_paco_if100", tmp_path, "teacher.model.queue_size=3")
    with pytest.raises(ConfigError, match=r"teacher\.model\.queue_size=3 is smaller than the 4 keys.*queue_size=32"):
        rehearse(stage, build_data(stage).info, "teacher")


@pytest.mark.parametrize(
    ("override", "advice"),
    [("teacher/loss=ldam", "type teacher/loss=paco"), ("teacher/model=cifar_resnet8", "type teacher/model=paco_")],
)
def test_a_choice_that_does_not_fit_paco_is_refused_before_training(override, advice, tmp_path):
    stage = small_stage("cifar10_paco_if100", tmp_path, override)
    with pytest.raises(ConfigError, match=advice):
        rehearse(stage, build_data(stage).info, "teacher")


def test_pacos_radius_is_said_to_be_ours():
    for name in ("cifar_paco", "imagenet_lt_paco"):
        text = Path(CONF / "teacher" / f"{name}.yaml").read_text()
        assert "never published" in text
        assert "ours" in text
