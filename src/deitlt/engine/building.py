"""What a stage trains, made of its configuration: data, module, and the student's teacher."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from torch import nn

from deitlt.checkpoints import ModelSpec, check_teacher, initialise
from deitlt.data import LongTailDataModule
from deitlt.engine.batches import BatchPlan, plan_batches
from deitlt.engine.stage_config import StageConfig
from deitlt.errors import ConfigError
from deitlt.models import (
    StudentNetwork,
    attend_by_products,
    check_local_size,
    check_queue_size,
    compile_network,
    keep_channels_last,
)
from deitlt.modules import ClassifierModule, FrozenTeacher
from deitlt.transforms import TeacherInput
from deitlt.types import DataInfo

make = partial(instantiate, _convert_="all")  # plain lists and dicts, nothing of OmegaConf, in what is made


def batch_plan(stage: StageConfig) -> BatchPlan:
    """How the stage's images per update are shared among its devices."""
    recipe = stage.recipe
    return plan_batches(recipe["images_per_update"], stage.ranks, recipe["batch_size"])


def build_data(stage: StageConfig) -> LongTailDataModule:
    """The stage's data module, not yet opened."""
    recipe, chosen = stage.recipe, stage.recipe["transforms"]
    sampler = {"sampler": make(recipe["sampler"])} if "sampler" in recipe else {}
    data = make(stage.data)
    datamodule: LongTailDataModule = data.func.from_keys(
        **{**data.keywords, **sampler},
        image_size=recipe["image_size"],
        statistics=recipe["statistics"],
        train=make(chosen["train"]),
        evaluation=make(chosen["evaluation"]),
        mixing=None if chosen["mixing"] is None else make(chosen["mixing"]),
        batch_size=batch_plan(stage).batch_size,
        drop_last=recipe["drop_last"],
        teacher_sees=chosen.get("teacher_sees", "both"),
        watched=stage.watched,
        seed=stage.seed,
    )
    return datamodule


def build_module(stage: StageConfig, info: DataInfo, teacher: FrozenTeacher | None = None) -> ClassifierModule:
    """The stage's module with fresh weights, for the classes that were found, and the teacher of a student."""
    recipe = stage.recipe
    network = make(recipe["model"])(num_classes=info.num_classes)
    loss = make(recipe["loss"])(counts=info.counts)
    if stage.kind == "student":
        _refuse_tokens(stage, network.tokens)
        _refuse_local_crops(stage.recipe)
        loss = make(recipe["distillation"])(cls_loss=loss)
    if (rows := recipe["model"].get("queue_size")) is not None:
        check_queue_size(rows, batch_plan(stage).images_per_update)
        _refuse_one_view(recipe["transforms"])
    module: ClassifierModule = make(recipe["module"])(
        network=network,
        loss=loss,
        info=info,
        optimizer=make(recipe["optimizer"]),
        schedule=make(recipe["schedule"]),
        **({} if teacher is None else {"teacher": teacher}),
    )
    _make_fast(stage, network, is_cnn=stage.kind == "teacher")
    return module


def _make_fast(stage: StageConfig, network: nn.Module, is_cnn: bool) -> None:
    """Lay a network out, choose its kernels and compile it as the stage's device likes it."""
    if is_cnn and stage.trainer["accelerator"] == "gpu":
        keep_channels_last(network)
    if stage.trainer["accelerator"] == "cpu" and "bf16" in stage.trainer["precision"]:
        attend_by_products(network)
    if stage.trainer["compile"]:
        compile_network(network)


def initialise_student(stage: StageConfig, module: ClassifierModule) -> str | None:
    """Give a fresh student the weights that `student.init` names; what was done, in words, or None."""
    source: str | None = stage.recipe.get("init")
    if source is None:
        return None
    assert isinstance(module.network, StudentNetwork)
    fresh = initialise(module.network, source, module.info.class_names)
    return f"{stage.name}: starts from {source}; fresh: {', '.join(fresh) if fresh else 'nothing'}"


def _refuse_tokens(stage: StageConfig, tokens: tuple[str, ...]) -> None:
    """Raise ConfigError where a teacher would have no token to teach."""
    if stage.distils and "dist" not in tokens:
        raise ConfigError(
            f"{stage.name}.model has no DIST token to teach; type student.model.distilled=true, "
            "or student/distillation=none."
        )


def _refuse_one_view(chosen: Mapping[str, Any]) -> None:
    """Raise ConfigError where PaCo's teacher would get other images than two unmixed views of each."""
    target = str(chosen["train"]["_target_"]).rpartition(".")[2]
    if target == "paired_transform" and chosen["mixing"] is None:
        return
    what = "mixed images" if chosen["mixing"] is not None else f"one {target} of each image"
    raise ConfigError(
        f"PaCo contrasts two unmixed views of each image, and teacher.transforms gives {what}; type "
        "teacher/transforms=paco_cifar, or take an LDAM teacher, as teacher=cifar, where method=no_ood or deit is to "
        "give it the student's transforms."
    )


def _refuse_local_crops(recipe: Mapping[str, Any]) -> None:
    """Raise ConfigError where the views make local crops that the student's patches do not tile."""
    view, patch_size = recipe["transforms"]["train"], recipe["model"].get("patch_size")
    if view.get("local_crops") and patch_size is not None:
        check_local_size(view["local_size"], patch_size)


def build_spec(stage: StageConfig, datamodule: LongTailDataModule) -> ModelSpec:
    """What the stage's checkpoints say of themselves."""
    info, view = datamodule.info, datamodule.normalisation
    not_of_it = ("_target_", "_partial_", "checkpointing")  # who makes it, and how it was trained
    return ModelSpec(
        kind="teacher" if stage.kind == "teacher" else "student",
        target=stage.recipe["model"]["_target_"],
        model={key: value for key, value in stage.recipe["model"].items() if key not in not_of_it},
        image_size=datamodule.image_size,
        mean=list(view.mean),
        std=list(view.std),
        crop_share=stage.recipe["transforms"]["evaluation"]["crop_share"],
        logit_scale=_logit_scale(stage.recipe),
        protocol=stage.protocol,
        class_names=list(info.class_names),
        labels=list(info.labels),
        authors_labels=list(info.authors_labels),
        counts=list(info.counts),
        groups={name: list(classes) for name, classes in info.groups.items()},
        data=stage.data,
    )


def _logit_scale(recipe: Mapping[str, Any]) -> float:
    """What makes logits of the answers of a cosine head: LDAM scales within its loss."""
    is_cosine = recipe["model"].get("head") == "cosine"
    return float(recipe["loss"].get("scale", 1.0)) if is_cosine else 1.0


def build_teacher(stage: StageConfig, datamodule: LongTailDataModule) -> FrozenTeacher | None:
    """The teacher of a student, whose input the data module makes from now on; None without distillation."""
    if not stage.distils:
        return None
    assert stage.teacher is not None
    found = check_teacher(Path(stage.teacher), datamodule, stage.run["teacher"])
    options = stage.recipe["teacher_input"]
    view = TeacherInput(
        found.spec.image_size,
        antialias=options["antialias"],
        student=datamodule.normalisation if options["renormalise"] else None,
        teacher=found.spec.normalisation if options["renormalise"] else None,
    )
    network = found.stored.build()
    _make_fast(stage, network, is_cnn=True)
    teacher = FrozenTeacher(
        network,
        view,
        scale=found.spec.logit_scale,
        dtype=torch.float32 if options.get("precision", "32-true") == "32-true" else torch.bfloat16,
        class_order=found.class_order,
    )
    datamodule.teacher_input = teacher.input
    return teacher
