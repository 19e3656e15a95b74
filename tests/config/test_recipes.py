"""Every file of conf/ composes and calls only what it may; every recipe makes what it names, and trains."""

import os
import re

import numpy as np
import pytest
import timm
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from rich.console import Console
from torch import nn

from deitlt.config import config_dir
from deitlt.config.reference import DELTAS, choices_of, groups_of
from deitlt.config.trust import is_allowed
from deitlt.data import list_datasets, register_dataset
from deitlt.data.datasets import CIFAR_NORMALISATION, DatasetSpec, DataSplits
from deitlt.data.images import ArrayImages
from deitlt.engine.build import build_callbacks, build_data, build_module, build_trainer
from deitlt.engine.checks import check_run, check_whole, rehearse
from deitlt.engine.run_folder import RunFolder
from deitlt.engine.stage_config import make_stage, plain
from deitlt.errors import ConfigError
from deitlt.modules import FrozenTeacher

CONF = config_dir()
FILES = sorted(CONF.rglob("*.yaml"))
EXPERIMENTS = [choice.name for choice in choices_of("experiment")]
METHODS = [choice.name for choice in choices_of("method")]
SMALL = ("student.model.width=48", "student.model.depth=1", "student.model.heads=3")


def composed(*overrides, name="train"):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose(name, overrides=[f"paths.output_dir={CONF}", *overrides] if name == "train" else list(overrides))


def id_of(path):
    return str(path.relative_to(CONF))


# Classes of each data set -> its groups' cuts.
CUTS = {10: (3, 7), 100: (36, 71), 365: None, 1000: (390, 835), 8142: (842, 4543)}
CLASSES = {"cifar100": 100, "places_lt": 365, "imagenet_lt": 1000, "inat18": 8142}


@pytest.fixture(scope="module", autouse=True)
def small_data():
    """Data sets of as many classes as the real ones that need no file: grey images of 4 pixels, as many for each."""
    for classes, cuts in CUTS.items():
        labels = np.repeat(np.arange(classes), 20 if classes <= 100 else 1)
        images = np.random.default_rng(0).integers(0, 255, (len(labels), 4, 4, 3), dtype=np.uint8)
        source = ArrayImages(images, labels)
        splits = DataSplits(source, source, tuple(f"class {c}" for c in range(classes)))
        spec = DatasetSpec(f"small{classes}", lambda _, s=splits: s, 32, CIFAR_NORMALISATION, cuts, "for these tests")
        if spec.name not in list_datasets():
            register_dataset(spec)


TINY_NETWORKS = {"resnet50": "resnet10t", "regnety_160": "regnety_002", "cifar_resnet32": "cifar_resnet8"}


def small_run(experiment, *words):
    """An experiment's configuration with small networks, and small data of as many classes in place of its own."""
    classes = next((count for name, count in CLASSES.items() if name in experiment), 10)
    factor = 0.1 if classes <= 100 else "null"
    data = [f"data.name=small{classes}", "++data.root=here", f"data.imbalance_factor={factor}", "data.num_workers=0"]
    config = composed(f"experiment={experiment}", *SMALL, *data, "data.max_count=null", "trainer=cpu", *words)
    teacher = config.teacher.model
    assert teacher.name.startswith("cifar_resnet") or timm.is_model(teacher.name)
    teacher.name = TINY_NETWORKS.get(teacher.name, teacher.name)
    return config


RECIPES = [pytest.param(name, "deit_lt", id=name) for name in EXPERIMENTS] + [
    pytest.param(experiment, method, id=f"{experiment} {method}")
    for experiment in ("digits", "digits_paco", "imagenet_lt")
    for method in METHODS
    # PaCo's teacher learns neither from cross-entropy nor from the student's mixed views.
    if method not in ("deit", "no_ood") or "paco" not in experiment
]


@pytest.mark.parametrize(("experiment", "method"), RECIPES)
def test_every_recipe_makes_all_of_its_stages(experiment, method, tmp_path):
    config = small_run(experiment, f"method={method}")
    check_run(config)
    assert "${" not in str(plain(config))
    for name in config.stages:
        stage = make_stage(config, RunFolder(tmp_path), name)
        datamodule = build_data(stage)
        assert datamodule.info.num_classes in CUTS
        module = build_module(stage, datamodule.info)
        optimizer = module.configure_optimizers()
        assert sum(p.numel() for group in optimizer.param_groups for p in group["params"]) == sum(
            p.numel() for p in module.network.parameters() if p.requires_grad
        )
        callbacks = build_callbacks(stage, datamodule.info, console=None)
        trainer = build_trainer(stage, callbacks, [], watches=False)
        assert trainer.max_epochs == stage.recipe["epochs"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["trainer.devices=1"], []),
        (["trainer.devices=2"], ["BatchNorm and SAM"]),
        (["trainer.devices=2", "teacher/sam=none"], ["BatchNorm"]),
        (["trainer.devices=2", "teacher.batch_size=32"], []),  # which is a difference of its own
    ],
)
def test_a_teacher_on_several_devices_says_what_sees_another_batch_than_the_recipes(words, said, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    config = composed("experiment=digits", "trainer.accelerator=cpu", *words)
    expected = [f"teacher: images a device at once, all that {who} can see, is 32, the recipe has 64" for who in said]
    assert check_whole(config, RunFolder(tmp_path)).changed == expected


def stand_in(stage, datamodule):
    """A teacher of a student, as `build_teacher` makes it of a checkpoint."""
    if not stage.distils:
        return None
    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, datamodule.info.num_classes))
    teacher = FrozenTeacher(network, lambda images: images[..., ::2, ::2])
    datamodule.teacher_input = teacher.input
    return teacher


FOUR_IMAGES = [f"{kind}.{key}=4" for kind in ("teacher", "student") for key in ("images_per_update", "batch_size")]


@pytest.mark.parametrize(
    "experiment", ["digits_paco", "cifar10_lt_if100", "cifar100_lt_if50_paco", "cifar10_cpu", "imagenet_lt"]
)
def test_a_recipe_takes_a_step_on_one_batch(experiment, tmp_path):
    config = small_run(experiment, *FOUR_IMAGES, "data/sampler=shuffled", "teacher.image_size=32")
    for name in ("teacher", "student"):
        stage = make_stage(config, RunFolder(tmp_path), name)
        datamodule = build_data(stage)
        module = build_module(stage, datamodule.info, stand_in(stage, datamodule))
        travelled, targets = next(iter(datamodule.train_dataloader()))
        views = datamodule.transformed(travelled, targets.device, np.random.default_rng(0))
        images = views if isinstance(views, torch.Tensor) else views[0]
        assert images.shape == (4, 3, stage.recipe["image_size"], stage.recipe["image_size"])
        batch = datamodule.complete(views, targets, np.random.default_rng(0))
        assert len(batch.images) == (8 if "paco" in experiment and name == "teacher" else 4)
        loss = module.training_step(batch, 0)
        loss.backward()
        assert torch.isfinite(loss)
        learning = [p for p in module.network.parameters() if p.requires_grad]
        assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in learning)


@pytest.mark.slow
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_recipe_trains_each_of_its_stages_for_two_batches(experiment, tmp_path):
    sizes = ["student.image_size=32", "teacher.image_size=32"]
    config = small_run(experiment, *FOUR_IMAGES, *sizes, "data/sampler=shuffled")
    if "queue_size" in config.teacher.model:
        config.teacher.model.queue_size = 16
    for name in config.stages:
        stage = make_stage(config, RunFolder(tmp_path), name)
        datamodule = build_data(stage)
        module = build_module(stage, datamodule.info, stand_in(stage, datamodule))
        before = [p.detach().clone() for p in module.network.parameters() if p.requires_grad]
        callbacks = build_callbacks(stage, datamodule.info, Console(quiet=True))
        trainer = build_trainer(stage, callbacks, [], watches=False)
        trainer.limit_train_batches, trainer.fit_loop.max_epochs = 2, 1
        trainer.fit(module, datamodule=datamodule)
        assert trainer.fit_loop.epoch_loop.batch_progress.total.completed == 2
        after = [p for p in module.network.parameters() if p.requires_grad]
        assert any(not torch.equal(old, new) for old, new in zip(before, after, strict=True))
        assert all(p.isfinite().all() for p in after)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["teacher.model.queue_size=3"], r"teacher\.model\.queue_size=3 is smaller than the 4 keys.*queue_size=32"),
        (["teacher/loss=ldam"], "type teacher/loss=paco"),
        (["teacher/model=cifar_resnet8"], "type teacher/model=paco_"),
    ],
)
def test_what_does_not_fit_paco_is_refused_before_training(words, said, tmp_path):
    config = small_run("teacher/cifar10_paco_if100", *FOUR_IMAGES, *words)
    stage = make_stage(config, RunFolder(tmp_path), "teacher")
    with pytest.raises(ConfigError, match=said):
        rehearse(stage, build_data(stage).info, "teacher")


CHOICES = {
    group: [choice.name for choice in choices_of(group)]
    for group in groups_of()
    if group not in DELTAS or group == "sweep"  # recipes are composed above
}


@pytest.mark.parametrize("i", range(max(map(len, CHOICES.values()))))
def test_every_choice_composes(i):
    """The i-th choices of all groups at once, beside each other as nobody would have them."""
    chosen = [f"{group}={names[i % len(names)]}" for group, names in CHOICES.items()]
    assert OmegaConf.to_yaml(composed("experiment=digits", *chosen), resolve=False)


@pytest.mark.parametrize("path", sorted(CONF.glob("*.yaml")), ids=id_of)
def test_every_verbs_file_composes(path):
    assert len(composed(name=path.stem)) > 0


@pytest.mark.parametrize("path", FILES, ids=id_of)
def test_every_file_says_what_it_is_and_calls_only_what_a_resumed_run_may_call(path):
    text = path.read_text()
    assert re.match(r"(# @package.*\n)?# \S.{4,}", text)
    if "hydra" not in path.parts:  # what sweeps is no part of a run's configuration
        assert all(is_allowed(target) for target in re.findall(r"_target_: *([^\s#}]+)", text))


@pytest.mark.parametrize("path", sorted((CONF / "experiment").rglob("*.yaml")), ids=id_of)
def test_an_experiment_is_a_delta_of_at_most_30_lines_that_names_its_table(path):
    lines = path.read_text().splitlines()
    assert len(lines) <= 30
    assert lines[0] == "# @package _global_"
    assert re.search(r"table|row|recipe", " ".join(line for line in lines[1:4] if line.startswith("#")))
