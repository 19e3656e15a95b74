"""What a configuration becomes: a stage's data module, its module, its teacher, its callbacks and its trainer."""

from collections.abc import Mapping
from functools import partial
from inspect import Parameter, signature
from pathlib import Path
from typing import Any

import lightning as L
import torch
from hydra.utils import get_object, instantiate
from lightning.pytorch.callbacks import Timer
from lightning.pytorch.loggers import Logger
from rich.console import Console
from torch import nn

from deitlt.callbacks import (
    BestCheckpoint,
    DeferredReweighting,
    FiniteLoss,
    LastCheckpoint,
    Preemption,
    SeededSteps,
    SharpnessAwareMinimization,
    StageProgress,
    StudentAveraging,
    Throughput,
    TokenFusion,
)
from deitlt.callbacks.stop_and_resume import GRACE
from deitlt.checkpoints import AtomicCheckpointIO, ModelSpec, check_teacher, initialise
from deitlt.checkpoints.spec import TARGETS
from deitlt.data import LongTailDataModule
from deitlt.engine.launch import find_environment
from deitlt.engine.objective import build_pruning
from deitlt.engine.stage_config import GRAPHS, StageConfig
from deitlt.errors import ConfigError, nearest
from deitlt.losses import AnyLoss, Reweightable
from deitlt.models import (
    StudentNetwork,
    answer_in_float32,
    attend_by_products,
    check_local_size,
    check_queue_size,
    compile_network,
    keep_channels_last,
)
from deitlt.modules import ClassifierModule, FrozenTeacher
from deitlt.modules.base import OptimizerFactory
from deitlt.transforms import TeacherInput
from deitlt.types import DataInfo, Normalisation

make = partial(instantiate, _convert_="all")  # plain lists and dicts, nothing of OmegaConf, in what is made
LAST, BEST = "last.ckpt", "best.ckpt"
LOGGERS = ("wandb", "tensorboard", "mlflow")  # ours; every other key of the node `logger` is one of the user's own
# The keys of the node `trainer` that we read ourselves; every other one is Lightning's Trainer's own.
OWN_KEYS = (
    "accelerator",
    "devices",
    "num_nodes",
    "grace",
    "strategy",
    "precision",
    "compile",
    "threads",
    "deterministic",
)


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
        batch_size=stage.batches.batch_size,
        drop_last=recipe["drop_last"],
        teacher_sees=chosen.get("teacher_sees", "both"),
        watched=stage.watched,
        seed=stage.seed,
    )
    return datamodule


def build_module(stage: StageConfig, info: DataInfo, teacher: FrozenTeacher | None = None) -> ClassifierModule:
    """The stage's module with fresh weights, for the classes that were found, and the teacher of a student."""
    recipe = stage.recipe
    network = build_network(stage, info.num_classes)
    loss = _build_loss(recipe["loss"], info)
    if stage.kind == "student":
        _refuse_local_crops(stage.recipe)
        loss = make(recipe["distillation"])(cls_loss=loss)
    if (rows := recipe["model"].get("queue_size")) is not None:
        check_queue_size(rows, stage.batches.images_per_update)
        _refuse_one_view(recipe["transforms"])
    module: ClassifierModule = make(recipe["module"])(
        network=network,
        loss=loss,
        info=info,
        optimizer=_optimizer(recipe["optimizer"]),
        schedule=make(recipe["schedule"]),
        **({} if teacher is None else {"teacher": teacher}),
    )
    _make_fast(stage, network)
    return module


def build_network(stage: StageConfig, num_classes: int) -> nn.Module:
    """The stage's network with fresh weights.

    Raises:
        ConfigError: a student's answers with other tokens than its training needs.
    """
    model = stage.recipe["model"]
    network: nn.Module = make({**model, "_partial_": False}, num_classes=num_classes)
    if model["_target_"] not in TARGETS:
        answer_in_float32(network)
    if stage.kind == "student":
        _refuse_tokens(stage, network)
    return network


def _build_loss(node: Mapping[str, Any], info: DataInfo) -> Reweightable:
    """The loss of the targets; one that knows no class weights gets them around it, and no counts that it lacks."""
    known = signature(get_object(node["_target_"])).parameters
    takes = "counts" in known or any(value.kind is Parameter.VAR_KEYWORD for value in known.values())
    loss = make({**node, "_partial_": False}, **({"counts": info.counts} if takes else {}))
    return loss if isinstance(loss, Reweightable) else AnyLoss(loss)


def _optimizer(node: Mapping[str, Any]) -> OptimizerFactory:
    """Of a network: a factory takes it whole, as timm's does, a class of torch's kind its parameters."""
    kind = get_object(node["_target_"])
    factory = make({**node, "_partial_": True})
    if isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer):
        return lambda network: factory(network.parameters())
    return factory  # type: ignore[no-any-return]


def use_threads(stage: StageConfig) -> None:
    """Have torch use as many threads on the CPU as the stage asks for, if it does."""
    if threads := stage.trainer.get("threads"):  # older runs have no such key
        torch.set_num_threads(threads)


def _make_fast(stage: StageConfig, network: nn.Module) -> None:
    """Lay a network out, choose its kernels and compile it as the stage's device likes it."""
    if stage.kind == "teacher" or (isinstance(network, StudentNetwork) and network.has_conv_stem):
        keep_channels_last(network)
    if stage.trainer["accelerator"] == "cpu" and "bf16" in stage.trainer["precision"]:
        attend_by_products(network)
    if compiles := stage.trainer["compile"]:
        compile_network(network, mode="reduce-overhead" if compiles == GRAPHS else None)


def initialise_student(stage: StageConfig, module: ClassifierModule, datamodule: LongTailDataModule) -> str | None:
    """Give a fresh student the weights that `student.init` names; what was done, in words, or None."""
    source: str | None = stage.recipe.get("init")
    if source is None:
        return None
    if not isinstance(module.network, StudentNetwork):
        raise ConfigError(
            f"student.init={source} is for a student that is a transformer of timm's; type student.init=null."
        )
    started = initialise(module.network, source, module.info.class_names)
    return f"{stage.name}: starts from {source}; {started.said(datamodule.normalisation)}"


def _refuse_tokens(stage: StageConfig, network: nn.Module) -> None:
    """Raise ConfigError where a teacher would have no token to teach, or TransMix no attention to ask."""
    tokens, target = getattr(network, "tokens", None), stage.recipe["model"]["_target_"]
    if tokens not in (("cls",), ("cls", "dist")):
        raise ConfigError(
            f"{target} has tokens={tokens}, and a student answers with deitlt.types.TokenLogits; give it "
            "tokens = ('cls', 'dist'), or ('cls',) where nothing is distilled."
        )
    if (stage.recipe["transforms"]["mixing"] or {}).get("attention") and not hasattr(network, "forward_with_attention"):
        raise ConfigError(f"{target} has no attention; type {stage.name}.transforms.mixing.attention=false.")
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
    not_of_it = ("_target_", "_partial_", "checkpointing")  # who makes it, and how it was trained
    return ModelSpec.of(
        datamodule.info,
        datamodule.normalisation,
        kind="teacher" if stage.kind == "teacher" else "student",
        target=stage.recipe["model"]["_target_"],
        model={key: value for key, value in stage.recipe["model"].items() if key not in not_of_it},
        image_size=datamodule.image_size,
        crop_share=crop_share(stage.recipe["transforms"]["evaluation"]),
        logit_scale=_logit_scale(stage.recipe),
        protocol=stage.protocol,
        data=stage.data,
        images=datamodule.images,
    )


def crop_share(evaluation: Mapping[str, Any]) -> float:
    """What a checkpoint says of the evaluation's transform.

    Raises:
        ConfigError: one of the user's own, which nobody who has the checkpoint could make again.
    """
    if evaluation["_target_"] != "deitlt.transforms.evaluation_transform":
        raise ConfigError(
            f"transforms.evaluation._target_={evaluation['_target_']} cannot be made again from a checkpoint; leave "
            "deitlt.transforms.evaluation_transform there, and have crop_share and image_size say what it does."
        )
    return float(evaluation["crop_share"])


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
    view = build_teacher_input(stage, datamodule, found.spec.image_size, found.spec.normalisation)
    _make_fast(stage, found.network)
    is_exact = stage.recipe["teacher_input"].get("precision", "32-true") == "32-true"
    teacher = FrozenTeacher(
        found.network,
        view,
        scale=found.spec.logit_scale,
        dtype=torch.float32 if is_exact else torch.bfloat16,
        class_order=found.class_order,
    )
    datamodule.teacher_input = teacher.input
    return teacher


def build_teacher_input(
    stage: StageConfig, datamodule: LongTailDataModule, image_size: int, normalisation: Normalisation
) -> TeacherInput:
    """What becomes of a student's images on their way to a teacher of this size and statistics."""
    options = stage.recipe["teacher_input"]
    return TeacherInput(
        image_size,
        antialias=options["antialias"],
        student=datamodule.normalisation if options["renormalise"] else None,
        teacher=normalisation if options["renormalise"] else None,
    )


def build_callbacks(stage: StageConfig, info: DataInfo, console: Console) -> list[L.Callback]:
    """Seeding first, for those that remember streams; checkpoints last, after all that may stop a run."""
    recipe, folder = stage.recipe, Path(stage.folder)
    speed = Throughput(stage.name, console if stage.trainer["compile"] else None)
    callbacks: list[L.Callback] = [SeededSteps(stage.seed), speed, StageProgress(stage.name, console, speed), Timer()]
    if (drw := recipe["drw"]) is not None:
        callbacks.append(DeferredReweighting(drw["start_epoch"], info.counts, drw["beta"], drw["stop_mixing"]))
    if (sam := recipe["sam"])["enabled"]:
        callbacks.append(SharpnessAwareMinimization(make(sam["rho"]), sam["adaptive"], sam["scope"]))
    if (ema := recipe["ema"]) is not None:
        callbacks.append(StudentAveraging(ema["decay"]))
    if (pruning := build_pruning(stage.run, stage.name, Path(stage.folder))) is not None:
        callbacks.append(pruning)
    callbacks += [TokenFusion(), FiniteLoss(folder)]
    grace = float(stage.trainer.get("grace", GRACE))  # older runs have none
    callbacks.append(Preemption(folder / LAST, grace, stage.checkpoint_every))
    callbacks += [make(node) for node in (recipe.get("callbacks") or {}).values()]
    return [*callbacks, *_checkpoints(stage, folder)]


def build_loggers(stage: StageConfig) -> list[Logger]:
    """The loggers of the user's own."""
    loggers = [make(node) for node in own_loggers(stage)]
    for logger in loggers:
        _refuse_no_logger(isinstance(logger, Logger), type(logger).__name__)
    return loggers


def own_loggers(stage: StageConfig) -> list[dict[str, Any]]:
    """What `build_loggers` makes; one that asks for a `save_dir` and was given none gets the stage's folder.

    Raises:
        ConfigError: for a node that is none, or a class that is no logger.
        TypeError: it takes other arguments.
    """
    nodes = []
    for name, node in stage.logger.items():
        if name in LOGGERS or node is None:
            continue
        target = node.get("_target_") if isinstance(node, Mapping) else None
        if target is None:
            raise ConfigError(f"logger.{name} is no logger; {nearest(name, LOGGERS, 'give it a _target_.')}")
        kind = get_object(target)
        _refuse_no_logger(not isinstance(kind, type) or issubclass(kind, Logger), target)
        place = {"save_dir": stage.folder} if "save_dir" in signature(kind).parameters else {}
        nodes.append({**place, **node})
        signature(kind).bind(**{key: value for key, value in nodes[-1].items() if key not in ("_target_", "_partial_")})
    return nodes


def _refuse_no_logger(is_one: bool, what: str) -> None:
    if not is_one:
        raise ConfigError(f"{what} is no logger; name a subclass of lightning.pytorch.loggers.Logger.")


def build_trainer(stage: StageConfig, callbacks: list[L.Callback], loggers: list[Logger], watches: bool) -> L.Trainer:
    """Lightning's trainer for this stage; `watches` says whether any split is evaluated while training.

    Raises:
        ConfigError: the node `trainer` has a key that is neither ours nor Lightning's.
    """
    trainer, recipe = stage.trainer, stage.recipe
    options: dict[str, Any] = {
        "accelerator": trainer["accelerator"],
        "devices": trainer["devices"],
        "num_nodes": stage.hosts,
        "strategy": trainer["strategy"],
        "precision": trainer["precision"],
        "deterministic": trainer["deterministic"],
        "benchmark": not trainer["deterministic"],
        "max_epochs": recipe["epochs"],
        "accumulate_grad_batches": stage.batches.accumulate,
        "gradient_clip_val": recipe["gradient_clip"],
        "check_val_every_n_epoch": min(stage.evaluate_every, recipe["epochs"]),
        "limit_val_batches": None if watches else 0,
        "num_sanity_val_steps": 0,
        "use_distributed_sampler": False,
        "callbacks": callbacks,
        "logger": loggers,
        "plugins": [AtomicCheckpointIO(), find_environment()],
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "default_root_dir": stage.folder,
    }
    return L.Trainer(**options | _options_of_lightning(trainer, options))


def _options_of_lightning(trainer: Mapping[str, Any], ours: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of the node `trainer` that are passed on."""
    others = {key: value for key, value in trainer.items() if key not in OWN_KEYS}
    known = set(signature(L.Trainer).parameters)
    for key in others:
        if key not in known or (key in ours and not key.startswith("enable_")):
            keys = [*OWN_KEYS, *(name for name in known if name not in ours)]
            raise ConfigError(
                f"trainer.{key} is no key; {nearest(key, keys, 'see the arguments of lightning.Trainer.')}"
            )
    return others


def _checkpoints(stage: StageConfig, folder: Path) -> list[L.Callback]:
    last = LastCheckpoint(
        dirpath=folder,
        filename=Path(LAST).stem,
        every_n_epochs=stage.checkpoint_every,
        save_on_train_epoch_end=True,
        enable_version_counter=False,
    )
    if stage.protocol == "last":
        return [last]
    # The best comes first: what is resumed from the last must know the best score so far.
    split = "val" if stage.protocol == "val" else "test"
    token = (
        "" if stage.kind == "teacher" else "avg/" if stage.recipe["model"].get("distilled", stage.distils) else "cls/"
    )
    every = 1 if stage.protocol == "paper" else stage.evaluate_every  # the authors evaluate each epoch
    drw_start = None if stage.recipe["drw"] is None else stage.recipe["drw"]["start_epoch"]
    return [BestCheckpoint(folder / BEST, f"{split}/{token}balanced", every, drw_start), last]
