"""Every configuration composes, resolves and makes what it names; the paper's recipe holds the paper's numbers."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from rich.console import Console
from torch import nn

from deitlt.config.compose import config_dir
from deitlt.config.trust import is_allowed
from deitlt.data import list_datasets, register_dataset
from deitlt.data.datasets import CIFAR_NORMALISATION, DatasetSpec, DataSplits, get_dataset
from deitlt.data.images import ArrayImages
from deitlt.engine.build import build_callbacks, build_data, build_module, build_trainer
from deitlt.engine.checks import check_run
from deitlt.engine.run_folder import RunFolder
from deitlt.engine.stage_config import make_stage, plain, plan_batches
from deitlt.models import create_student
from deitlt.modules import FrozenTeacher

CONF = config_dir()
FILES = sorted(CONF.rglob("*.yaml"))
EXPERIMENTS = sorted(str(p.relative_to(CONF / "experiment").with_suffix("")) for p in CONF.glob("experiment/**/*.yaml"))
METHODS = sorted(path.stem for path in (CONF / "method").glob("*.yaml"))
SMALL = ("student.model.width=48", "student.model.depth=1", "student.model.heads=3")
PAPER = tuple(name for name in EXPERIMENTS if re.fullmatch(r"cifar100?_lt_if\d+", name))


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


def small_run(experiment, method, *words):
    """An experiment's configuration with small data of as many classes in place of its own."""
    classes = next((count for name, count in CLASSES.items() if name in experiment), 10)
    factor = 0.1 if classes <= 100 else "null"
    data = [f"data.name=small{classes}", "data.root=here", f"data.imbalance_factor={factor}", "data.num_workers=0"]
    choices = [f"experiment={experiment}", f"method={method}", *words]
    return composed(*choices, *data, "data.max_count=null", "trainer=cpu")


RECIPES = [pytest.param(name, "deit_lt", id=name) for name in EXPERIMENTS] + [
    pytest.param(experiment, method, id=f"{experiment} {method}")
    for experiment in ("digits", "digits_paco", "cifar10_lt_if100", "imagenet_lt")
    for method in METHODS
    # PaCo's teacher learns neither from cross-entropy nor from the student's mixed views.
    if method not in ("deit", "no_ood") or "paco" not in experiment
]


@pytest.mark.parametrize(("experiment", "method"), RECIPES)
def test_every_recipe_makes_all_of_its_stages(experiment, method, tmp_path):
    config = small_run(experiment, method, *SMALL)
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


def stand_in(stage, datamodule):
    """A teacher of a student, as `build_teacher` makes it of a checkpoint."""
    if not stage.distils:
        return None
    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, datamodule.info.num_classes))
    teacher = FrozenTeacher(network, lambda images: images[..., ::2, ::2])
    datamodule.teacher_input = teacher.input
    return teacher


STEPPED = ("digits", "digits_paco", "cifar10_lt_if100", "cifar100_lt_if50_paco", "cifar10_cpu")


@pytest.mark.parametrize("experiment", STEPPED)
def test_a_recipe_takes_a_step_on_one_batch(experiment, tmp_path):
    words = ["student.images_per_update=4", "student.batch_size=4", "teacher.images_per_update=4"]
    config = small_run(experiment, "deit_lt", *SMALL, *words, "data/sampler=shuffled")
    for name in ("teacher", "student"):
        stage = make_stage(config, RunFolder(tmp_path), name)
        datamodule = build_data(stage)
        module = build_module(stage, datamodule.info, stand_in(stage, datamodule))
        travelled, targets = next(iter(datamodule.train_dataloader()))
        views = datamodule.transformed(travelled, targets.device, np.random.default_rng(0))
        images = views if isinstance(views, torch.Tensor) else views[0]
        assert images.shape == (4, 3, stage.recipe["image_size"], stage.recipe["image_size"])
        batch = datamodule.complete(views, targets, np.random.default_rng(0))
        loss = module.training_step(batch, 0)
        loss.backward()
        assert torch.isfinite(loss)
        learning = [p for p in module.network.parameters() if p.requires_grad]
        assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in learning)


TINY_NETWORKS = {"resnet50": "resnet10t", "regnety_160": "regnety_002", "cifar_resnet32": "cifar_resnet8"}


@pytest.mark.slow
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_recipe_trains_each_of_its_stages_for_two_batches(experiment, tmp_path):
    words = [f"{kind}.{key}=4" for kind in ("teacher", "student") for key in ("images_per_update", "batch_size")]
    words += [*SMALL, "student.image_size=32", "teacher.image_size=32", "data/sampler=shuffled"]
    config = small_run(experiment, "deit_lt", *words)
    config.teacher.model.name = TINY_NETWORKS.get(config.teacher.model.name, config.teacher.model.name)
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


def test_the_papers_student_is_deit_base():
    recipe = plain(composed("experiment=cifar10_lt_if100").student)
    model = {key: value for key, value in recipe["model"].items() if not key.startswith("_")}
    with torch.device("meta"):
        network = create_student(10, **model)
    assert network.vit.embed_dim == 768
    assert len(network.vit.blocks) == 12
    assert network.vit.blocks[0].attn.num_heads == 12
    assert network.vit.patch_embed.num_patches == 14 * 14
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(85.8e6, rel=0.01)


# The paper's recipe for CIFAR-10-LT at imbalance 100, as the published scripts have it.
PUBLISHED = {
    "data.name": "cifar10",
    "data.imbalance_factor": 0.01,
    "data.imbalance_kind": "exp",
    "data.max_count": None,
    "data.split_seed": 0,
    "data.groups": "paper",
    "data.val_fraction": 0.0,
    "data.sampler._target_": "deitlt.data.RepeatedAugmentationSampler",
    "data.sampler.num_repeats": 3,
    "stages": ["teacher", "student"],
    "protocol": "last",
    "student.epochs": 1200,
    "student.images_per_update": 1024,
    "student.batch_size": 128,
    "student.image_size": 224,
    "student.statistics": "imagenet",
    "student.model.name": "deit_base_patch16_224",
    "student.model.distilled": True,
    "student.model.patch_size": 16,
    "student.model.width": None,
    "student.model.drop_path": 0.1,
    "student.optimizer.opt": "adamw",
    "student.optimizer.lr": 2.5e-4,
    "student.optimizer.betas": [0.9, 0.999],
    "student.optimizer.weight_decay": 0.05,
    "student.optimizer.filter_bias_and_bn": True,
    "student.gradient_clip": None,
    "student.schedule.warmup_epochs": 5,
    "student.schedule.warmup_lr": 1e-6,
    "student.schedule.min_lr": 1e-5,
    "student.transforms.train.crop": "resized",
    "student.transforms.train.scale": [0.08, 1.0],
    "student.transforms.train.flip": 0.5,
    "student.transforms.train.rand_augment": "rand-m9-mstd0.5-inc1",
    "student.transforms.train.erasing": 0.25,
    "student.transforms.mixing.mixup": 0.8,
    "student.transforms.mixing.cutmix": 1.0,
    "student.transforms.mixing.switch": 0.5,
    "student.transforms.mixing.probability": 1.0,
    "student.transforms.mixing.smoothing": 0.1,
    "student.transforms.evaluation.crop_share": 0.875,
    "student.distillation.kind": "hard",
    "student.distillation.alpha": 0.5,
    "student.drw.start_epoch": 1100,
    "student.drw.beta": 0.9999,
    "student.drw.stop_mixing": True,
    "student.ema.decay": 0.99984,
    "student.teacher_input.antialias": False,
    "student.teacher_input.renormalise": False,
    "student.sam.enabled": False,
    "teacher.epochs": 200,
    "teacher.images_per_update": 128,
    "teacher.batch_size": 128,
    "teacher.image_size": 32,
    "teacher.statistics": "own",
    "teacher.model.name": "cifar_resnet32",
    "teacher.model.head": "cosine",
    "teacher.optimizer.opt": "momentum",
    "teacher.optimizer.lr": 0.1,
    "teacher.optimizer.momentum": 0.9,
    "teacher.optimizer.weight_decay": 2e-4,
    "teacher.schedule.warmup_epochs": 5,
    "teacher.schedule.factors": [[160, 0.01], [180, 0.0001]],
    "teacher.drw.start_epoch": 160,
    "teacher.drw.beta": 0.9999,
    "teacher.loss._target_": "deitlt.losses.LDAMLoss",
    "teacher.loss.max_margin": 0.5,
    "teacher.loss.scale": 30.0,
    "teacher.sam.enabled": True,
    "teacher.sam.adaptive": False,
    "teacher.sam.rho._target_": "deitlt.optim.ConstantRho",
    "teacher.sam.rho.value": 0.8,
    "teacher.transforms.train.padding": 4,
    "teacher.transforms.train.flip": 0.5,
    "teacher.transforms.mixing": None,
    "teacher.ema": None,
}


@pytest.fixture(scope="module")
def paper():
    return composed("experiment=cifar10_lt_if100")


@pytest.mark.parametrize(("key", "value"), PUBLISHED.items(), ids=PUBLISHED)
def test_the_papers_recipe_has_the_papers_numbers(key, value, paper):
    found = OmegaConf.select(paper, key, throw_on_missing=True)
    assert (OmegaConf.to_container(found) if OmegaConf.is_config(found) else found) == value


def test_the_teachers_statistics_are_cifars_and_its_groups_the_papers():
    spec = get_dataset("cifar10")
    assert spec.normalisation.mean == (0.4914, 0.4822, 0.4465)
    assert spec.normalisation.std == (0.2023, 0.1994, 0.2010)
    assert (spec.group_cuts, get_dataset("cifar100").group_cuts) == ((3, 7), (36, 71))


@pytest.mark.parametrize("experiment", PAPER)
def test_the_papers_recipes_differ_in_data_alone(experiment, paper):
    config = composed(f"experiment={experiment}")
    assert (config.teacher, config.student) == (paper.teacher, paper.student)
    assert config.data.name == ("cifar100" if "cifar100" in experiment else "cifar10")
    assert config.data.imbalance_factor == (0.02 if experiment.endswith("if50") else 0.01)
    assert {**config.data, "name": 0, "imbalance_factor": 0} == {**paper.data, "name": 0, "imbalance_factor": 0}


@pytest.mark.parametrize(("devices", "accumulate"), [(1, 8), (2, 4), (4, 2)])
def test_an_update_sees_the_papers_1024_images_on_any_number_of_devices(devices, accumulate, paper):
    plan = plan_batches(paper.student.images_per_update, devices, paper.student.batch_size)
    assert (plan.batch_size, plan.accumulate, plan.images_per_update) == (128, accumulate, 1024)


def test_the_published_learning_rate_follows_from_devices_and_batch(paper):
    assert paper.student.optimizer.lr == 5e-4 * (2 * 128) / 512  # accumulation is not counted


def test_a_method_changes_what_its_row_of_the_table_says():
    methods = {name: composed("experiment=cifar10_lt_if100", f"method={name}") for name in METHODS}
    recipe = composed("experiment=cifar10_lt_if100")
    assert all(methods["deit_lt"][part] == recipe[part] for part in ("data", "stages", "teacher", "student"))
    for name in ("vit", "vit_drw", "vit_balanced_softmax", "no_teacher"):
        assert methods[name].stages == ["student"]
        assert methods[name].student.distillation.kind == "none"
        assert methods[name].student.model.distilled == (name == "no_teacher")
    assert methods["vit"].student.drw is None
    assert methods["vit_drw"].student.drw.start_epoch == 1100
    assert methods["vit_balanced_softmax"].student.loss._target_.endswith("BalancedSoftmaxLoss")
    assert not methods["deit"].teacher.sam.enabled
    assert (
        plain(methods["deit"].teacher)["transforms"]["train"] == plain(methods["deit"].student)["transforms"]["train"]
    )
    assert methods["deit"].teacher.drw is methods["deit"].student.drw is None


@pytest.mark.parametrize("path", FILES, ids=id_of)
def test_every_choice_composes(path):
    group, name = str(path.parent.relative_to(CONF)), path.stem
    if group.startswith("experiment/"):
        group, name = "experiment", f"{path.parent.name}/{name}"
    if group == ".":
        composed(name=name)
        return
    if name == "base":
        return  # what others of its group begin with
    verb = ["experiment=digits"] if group != "experiment" else []
    assert OmegaConf.to_yaml(composed(*verb, f"{group}={name}"), resolve=False)


OF_A_RUN = [path for path in FILES if "hydra" not in path.parts]  # what sweeps is no part of a run's configuration


@pytest.mark.parametrize("path", OF_A_RUN, ids=id_of)
def test_a_file_calls_only_what_a_resumed_run_may_call(path):
    for target in re.findall(r"_target_: *([^\s#]+)", path.read_text()):
        assert is_allowed(target)


@pytest.mark.parametrize("path", sorted((CONF / "experiment").rglob("*.yaml")), ids=id_of)
def test_an_experiment_is_a_delta_of_at_most_30_lines_that_names_its_table(path):
    lines = path.read_text().splitlines()
    assert len(lines) <= 30
    assert lines[0] == "# @package _global_"
    assert re.search(r"table|row|recipe", " ".join(line for line in lines[1:4] if line.startswith("#")))


# What the first lines of their files, or their names, say already.
SELF_EVIDENT = {
    "momentum",
    "betas",
    "weight_decay",
    "filter_bias_and_bn",
    "enabled",
    "kind",
    "opt",
    "warmup_epochs",
    "wandb",
}


def keys_of(path, pattern=r" *[^\s#{]"):
    """The keys whose line goes on as the pattern says: with a value."""
    return re.findall(rf"^\s*([a-z]\w*):{pattern}", path.read_text(), re.MULTILINE)


def test_every_key_is_explained_where_it_is_introduced():
    groups = [path for path in FILES if path.relative_to(CONF).parts[0] not in ("experiment", "method")]
    explained = {key for path in groups for key in keys_of(path, r"[^\n]*#")} | SELF_EVIDENT
    unexplained = [
        f"{path.relative_to(CONF)}: {key}"
        for path in groups
        for key in keys_of(path)
        if key not in explained and not _is_hydras(path, key)
    ]
    assert unexplained == []


def _is_hydras(path, key):
    """Whether the key is one of Hydra's own, a choice of a group, or follows from another key."""
    is_choice = re.search(rf"^\s*- (override )?\S*{key}:", path.read_text(), re.MULTILINE)
    return key in ("output_subdir", "run", "sweep", "defaults") or bool(is_choice) or "${" in _line(path, key)


def _line(path, key):
    return next(line for line in path.read_text().splitlines() if re.match(rf"\s*{key}:", line))


@pytest.mark.parametrize("path", FILES, ids=id_of)
def test_every_file_says_what_it_is(path: Path):
    lines = path.read_text().splitlines()
    first = lines[1] if lines[0].startswith("# @package") else lines[0]
    assert re.match(r"# \S.{4,}", first)
