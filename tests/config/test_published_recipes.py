"""The recipes hold the paper's numbers, and each teacher's recipe those that were published for it."""

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from deitlt.config import config_dir
from deitlt.config.checks import check_values
from deitlt.config.reference import choices_of
from deitlt.data.datasets import get_dataset
from deitlt.data.loading import make_loader
from deitlt.engine.build import make
from deitlt.engine.stage_config import plain, plan_batches
from deitlt.models import create_student

METHODS = [choice.name for choice in choices_of("method")]


def composed(experiment, *overrides):
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        return compose("train", overrides=[f"experiment={experiment}", "paths.output_dir=here", *overrides])


def values(node, keys):
    """What a configuration has for each of some keys, in plain lists and values."""
    found = {key: OmegaConf.select(node, key, throw_on_missing=True) for key in keys}
    return {key: OmegaConf.to_container(value) if OmegaConf.is_config(value) else value for key, value in found.items()}


@pytest.fixture(scope="module")
def paper():
    return composed("cifar10_lt_if100")


# The paper's recipe for CIFAR-10-LT at imbalance 100, as the published scripts have it.
PAPER = {
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
    "student.drop_last": False,
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


def test_the_papers_recipe_has_the_papers_numbers(paper):
    assert values(paper, PAPER) == PAPER


def test_the_papers_student_is_deit_base(paper):
    model = {key: value for key, value in plain(paper.student)["model"].items() if not key.startswith("_")}
    with torch.device("meta"):
        network = create_student(10, **model)
    assert network.vit.embed_dim == 768
    assert len(network.vit.blocks) == 12
    assert network.vit.blocks[0].attn.num_heads == 12
    assert network.vit.patch_embed.num_patches == 14 * 14
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(85.8e6, rel=0.01)


def test_the_teachers_statistics_are_cifars_and_its_groups_the_papers():
    spec = get_dataset("cifar10")
    assert spec.normalisation.mean == (0.4914, 0.4822, 0.4465)
    assert spec.normalisation.std == (0.2023, 0.1994, 0.2010)
    assert (spec.group_cuts, get_dataset("cifar100").group_cuts) == ((3, 7), (36, 71))


@pytest.mark.parametrize("experiment", ["cifar10_lt_if50", "cifar100_lt_if100", "cifar100_lt_if50"])
def test_the_papers_recipes_differ_in_data_alone(experiment, paper):
    config = composed(experiment)
    assert (config.teacher, config.student) == (paper.teacher, paper.student)
    assert config.data.name == ("cifar100" if "cifar100" in experiment else "cifar10")
    assert config.data.imbalance_factor == (0.02 if experiment.endswith("if50") else 0.01)
    assert {**config.data, "name": 0, "imbalance_factor": 0} == {**paper.data, "name": 0, "imbalance_factor": 0}


@pytest.mark.parametrize(("devices", "accumulate"), [(1, 8), (2, 4), (4, 2)])
def test_an_update_sees_the_papers_1024_images_on_any_number_of_devices(devices, accumulate, paper):
    plan = plan_batches(paper.student.images_per_update, devices, paper.student.batch_size)
    assert (plan.batch_size, plan.accumulate, plan.images_per_update) == (128, accumulate, 1024)


def test_an_epoch_of_inaturalist_has_the_published_micro_batches():
    """437,513 images on four GPUs: the last micro-batch is short, and so is the last group of four."""
    config = composed("inat18")
    order = make(config.data.sampler)(range(437_513), num_replicas=4, rank=0)
    loader = make_loader(range(437_513), order, config.student.batch_size, 0, config.student.drop_last)
    assert len(loader) == 855
    assert len(loader) % plan_batches(config.student.images_per_update, 4, config.student.batch_size).accumulate == 3


def test_the_published_learning_rate_follows_from_devices_and_batch(paper):
    assert paper.student.optimizer.lr == 5e-4 * (2 * 128) / 512  # accumulation is not counted


def test_a_method_changes_what_its_row_of_the_table_says(paper):
    methods = {name: composed("cifar10_lt_if100", f"method={name}") for name in METHODS}
    assert all(methods["deit_lt"][part] == paper[part] for part in ("data", "stages", "teacher", "student"))
    for name in ("vit", "vit_drw", "vit_balanced_softmax", "no_teacher"):
        assert methods[name].stages == ["student"]
        assert methods[name].student.distillation.kind == "none"
        assert methods[name].student.model.distilled == (name == "no_teacher")
    assert methods["vit"].student.drw is None
    assert methods["vit_drw"].student.drw.start_epoch == 1100
    assert methods["vit_balanced_softmax"].student.loss._target_.endswith("BalancedSoftmaxLoss")
    assert not methods["deit"].teacher.sam.enabled
    teacher, student = plain(methods["deit"].teacher), plain(methods["deit"].student)
    assert teacher["transforms"]["train"] == student["transforms"]["train"]
    assert teacher["drw"] is student["drw"] is None


# DeiT-III's command for ViT-B on ImageNet-1k; its rate is for 2,048 images an update.
DEIT3 = {
    "student.model.name": "deit3_base_patch16_224",
    "student.model.drop_path": 0.2,
    "student.optimizer.opt": "lamb",
    "student.optimizer.weight_decay": 0.05,
    "student.schedule.warmup_epochs": 5,
    "student.schedule.warmup_lr": 1e-6,
    "student.transforms.train.jitter": 0.3,
    "student.transforms.mixing.mixup": 0.8,
    "student.transforms.mixing.cutmix": 1.0,
    "student.transforms.mixing.smoothing": 0.0,
    "student.transforms.evaluation.crop_share": 1.0,
    "student.loss.threshold": 0.0,
}


@pytest.mark.parametrize(
    ("words", "images"),
    [
        (["cifar10_lt_if100_deit3"], 1024),
        (["cifar10_lt_if100", "method=deit3"], 1024),
        (["imagenet_lt_deit3"], 2048),
        (["inat18", "method=deit3"], 2048),
        (["imagenet_lt", "method=deit3", "student.images_per_update=512"], 512),
    ],
)
def test_deit3s_row_is_its_published_command_with_a_rate_that_follows_the_images_of_an_update(words, images):
    config = composed(*words)
    check_values(config, "train")
    assert values(config, DEIT3) == DEIT3
    assert config.student.images_per_update == images
    for rate in (config.student.optimizer.lr, config.student.schedule.lr):
        assert rate == pytest.approx(3e-3 * images / 2048)


def test_the_row_and_the_method_of_deit3_are_one_recipe():
    row, method = composed("cifar10_lt_if100_deit3"), composed("cifar10_lt_if100", "method=deit3")
    assert plain(row.student) == plain(method.student)


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
TEACHERS = {
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


def test_every_teachers_recipe_is_checked():
    assert [f"teacher/{name}" for name in sorted(TEACHERS)] == [
        choice.name for choice in choices_of("experiment") if "/" in choice.name
    ]


@pytest.mark.parametrize("recipe", TEACHERS)
def test_a_teachers_recipe_has_the_published_numbers(recipe):
    config = composed(f"teacher/{recipe}")
    assert list(config.stages) == ["teacher"]
    assert values(config.teacher, TEACHERS[recipe]) == TEACHERS[recipe]
    data = recipe.split("_")[0] if recipe.startswith("cifar") else recipe.rpartition("_")[0]
    assert config.data.name == data
    assert config.data.imbalance_factor == (0.01 if recipe.startswith("cifar") else None)


@pytest.mark.parametrize("recipe", RATES)
def test_the_learning_rate_of_each_epoch_is_the_published(recipe):
    teacher = plain(composed(f"teacher/{recipe}").teacher)
    schedule = make(teacher["schedule"])
    rates = {epoch: schedule(epoch) / teacher["optimizer"]["lr"] for epoch in RATES[recipe]}
    assert rates == pytest.approx(RATES[recipe], rel=1e-9)


@pytest.mark.parametrize("recipe", RADII)
def test_sams_radius_of_each_epoch_is_the_published(recipe):
    rho = make(plain(composed(f"teacher/{recipe}").teacher)["sam"]["rho"])
    assert {epoch: rho(epoch) for epoch in RADII[recipe]} == RADII[recipe]


@pytest.mark.parametrize("name", ["cifar_paco", "imagenet_lt_paco"])
def test_pacos_radius_is_said_to_be_ours(name):
    text = (config_dir() / "teacher" / f"{name}.yaml").read_text()
    assert "never published" in text
    assert "ours" in text
