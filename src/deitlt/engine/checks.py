"""Everything that can be wrong with a run is looked for before anything is written or trained."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from inspect import Parameter, signature
from pathlib import Path
from typing import Any

import torch
from hydra.errors import InstantiationException
from hydra.utils import get_object
from omegaconf import DictConfig
from rich.console import Console
from torch import nn

from deitlt.checkpoints import (
    check_start,
    check_teacher,
    check_unseen,
    doubt_images,
    find_checkpoint,
    read_spec,
    refuse_changed,
)
from deitlt.checkpoints.spec import TARGETS
from deitlt.config.checks import holds_out, refuse_missing_loggers
from deitlt.config.compose import difference, plain_content
from deitlt.config.trust import refuse_absent_targets
from deitlt.data import LongTailDataModule
from deitlt.data.datasets import get_dataset
from deitlt.data.file_checks import SeenFiles, broken_of
from deitlt.engine.build import (
    LAST,
    build_callbacks,
    build_data,
    build_module,
    build_trainer,
    crop_share,
    initialise_student,
    own_loggers,
)
from deitlt.engine.logs import without_chatter
from deitlt.engine.objective import check_objective
from deitlt.engine.run_folder import RunFolder
from deitlt.engine.stage_config import (
    StageConfig,
    check_epochs,
    given_checkpoint,
    make_stage,
    node_of,
    plain,
    slow_precision,
    stage_names,
    stage_recipe,
)
from deitlt.errors import ConfigError, UserError, nearest
from deitlt.longtail import class_counts
from deitlt.losses import AnyLoss, DistillationLoss
from deitlt.models import entrances, uncompiled
from deitlt.modules import ClassifierModule
from deitlt.tracking import settle_mode
from deitlt.types import DataInfo, TokenLogits

# Where no GPU is: data set -> recipes of it that a CPU trains.
FOR_CPUS = {
    "cifar10": "experiment=cifar10_cpu data.root=FOLDER (half an hour; cifar10_cpu_evening: two hours)",
    "folder": "experiment=folder_cpu data.root=FOLDER",
    "digits": "experiment=digits",
}
TOLD, REFUSED = 1.0, 24.0  # hours on a CPU that nobody asked for


@dataclass(frozen=True)
class Checked:
    """A run that nothing is known to be wrong with.

    config: with the broken images that it leaves out. stages: those to train, nothing of them 'auto' any more. info:
    what the data are. doubts: lines for the terminal, on what nobody knows. changed: lines on stages whose devices and
    batches cannot make the recipe's images per update, or show fewer at once to what depends on it.
    """

    config: DictConfig
    stages: list[StageConfig]
    info: DataInfo
    doubts: list[str]
    changed: list[str]


def check_whole(config: DictConfig, folder: RunFolder) -> Checked:
    """Check a run as a whole: its settings, its data, what is built of every stage, the checkpoints that were given.

    Raises:
        UserError: what is wrong.
    """
    check_run(config)
    check_objective(config)
    told = _without_gpu_nor_data(config, folder)
    datamodule = check_data(config, folder)
    stages = [make_stage(config, folder, name) for name in config.stages if given_checkpoint(config, name) is None]
    if not stages:
        raise ConfigError("Every stage is given as a checkpoint, so nothing is left to train; type deitlt evaluate.")
    for stage in filter(_is_begun, stages):
        refuse_changed(Path(stage.folder) / LAST, datamodule)
    networks = [rehearse(stage, datamodule.info, node_of(config, stage.name)) for stage in stages]
    changed = [line for stage, network in zip(stages, networks, strict=True) for line in _shared_out(stage, network)]
    if told is None:
        told = _without_gpu(config, folder, zip(stages, networks, strict=True), datamodule.info)
    doubts = _doubts(config, stages, datamodule) + told
    return Checked(config, _with_mode(stages), datamodule.info, doubts, changed)


def check_data(
    config: DictConfig, folder: RunFolder, tell: Callable[[LongTailDataModule, SeenFiles], None] | None = None
) -> LongTailDataModule:
    """The first stage's data, of which every file was looked at, unless the configuration says which are broken.

    Args:
        config: it gets the broken files that are left out.
        folder: the run's, for the names of broken files where they are many.
        tell: is given the data and what was found of their files, before a broken one is an error.

    Raises:
        DataError: files are missing, or one is broken where that is an error.
    """
    datamodule = build_data(make_stage(config, folder, config.stages[0]))
    seen = {} if config.data.get("exclude") else datamodule.look_at_files()
    if datamodule.file_check.on_broken == "skip" and (broken := broken_of(seen)):
        config.data.exclude = broken
        datamodule = build_data(make_stage(config, folder, config.stages[0]))
    if tell is not None:
        tell(datamodule, seen)
    datamodule.file_check.left_out(seen, folder.path / "broken.txt")
    return datamodule


def check_run(config: DictConfig) -> None:
    """Check what concerns the run as a whole.

    Raises:
        ConfigError: for a part that is not there, a logger that is not installed, an unknown stage, or a student whose
            teacher comes from nowhere.
    """
    content = plain_content(config)
    refuse_absent_targets({name: node for name, node in content.items() if name != "recipe"})  # which has words
    refuse_missing_loggers(content)
    stages, known = list(config.stages), stage_names(config)
    for name in stages:
        if name not in known:
            raise ConfigError(f"stages has {name!r}, which is no stage; {nearest(str(name), known)}")
    if not stages or len(set(stages)) != len(stages):
        raise ConfigError(f"stages={stages} must name each stage once; type stages=[teacher,student], say.")
    check_epochs(config, [name for name in stages if given_checkpoint(config, name) is None])
    if config.protocol == "val" and not holds_out(config.data):
        raise ConfigError("protocol=val needs a validation split; type data.val_fraction=0.1, say.")
    for place, name in enumerate(stages):
        distillation = stage_recipe(config, name).get("distillation")
        if distillation is None or distillation["kind"] == "none" or "teacher" in stages[:place]:
            continue
        if "teacher" in stages:
            raise ConfigError(f"stages={stages} trains the {name} before its teacher; type stages=[teacher,{name}].")
        if config.teacher.checkpoint is None:
            raise ConfigError(
                f"The {name} has no teacher: type stages=[teacher,{name}], teacher.checkpoint=FILE, "
                "or student/distillation=none."
            )


def _doubts(config: DictConfig, stages: list[StageConfig], datamodule: LongTailDataModule) -> list[str]:
    """Look into the checkpoints that were given; what of them nobody knows."""
    doubts = [slow_precision(stages[0].trainer)]
    doubts += [check_start(stage.recipe.get("init"), stage.data) for stage in stages if not _is_begun(stage)]
    if (teacher := given_checkpoint(config, "teacher")) is not None:
        path = find_checkpoint(teacher, ("teacher",))
        known, data = check_teacher(path, datamodule, plain(config.teacher)).spec, plain(config.data)
        if any(stage.distils for stage in stages):
            doubts.append(check_unseen("teacher", path, known.data, data))
            doubts.append(doubt_images(path, known, datamodule, data))
    if (student := given_checkpoint(config, "student")) is not None:
        read_spec(find_checkpoint(student, ("student",)))
    return [doubt for doubt in dict.fromkeys(doubts) if doubt is not None]  # student and baseline start alike


def _without_gpu(
    config: DictConfig, folder: RunFolder, networks: Iterable[tuple[StageConfig, nn.Module]], info: DataInfo
) -> list[str]:
    """What a machine without a GPU is told of its stages and their networks, where these take hours.

    Raises:
        ConfigError: they take days, and the run was not begun elsewhere.
    """
    if config.trainer.accelerator != "auto" or torch.cuda.device_count():
        return []
    left = [(stage, network) for stage, network in networks if not _is_begun(stage)]
    hours = sum(_cpu_hours(stage, network, sum(info.counts)) for stage, network in left)
    taken = f"about {hours:.0f} hours" if hours < 2 * REFUSED else f"about {hours / 24:,.0f} days"
    smaller = FOR_CPUS.get(config.data.get("expects") or config.data.name)
    if hours >= REFUSED and not folder.config.exists():
        recipe = (config.get("recipe") or {}).get("experiment")
        what = "This run" if recipe is None else f"experiment={recipe}"
        raise ConfigError(
            f"{what} would take {taken} on this machine's CPU, for there is no GPU; type "
            f"{'' if smaller is None else f'{smaller}, or '}trainer=cpu to train it here all the same."
        )
    advice = "" if smaller is None else f"; {smaller} is made for CPUs"
    return [f"trainer: there is no GPU, and this machine's CPU will take {taken}{advice}"] if hours >= TOLD else []


def _without_gpu_nor_data(config: DictConfig, folder: RunFolder) -> list[str] | None:
    """The same before data are fetched, where it is known what they will be; None where it is not."""
    data, (classes, most) = config.data, get_dataset(config.data.name).shape
    if not classes or config.trainer.accelerator != "auto" or torch.cuda.device_count():
        return None
    try:
        factor, most = data.imbalance_factor or 1.0, min(data.max_count or most, most)
        counts = class_counts(classes, most, factor, data.imbalance_kind)
        info = DataInfo(classes, tuple(counts), tuple(map(str, range(classes))), {})
        stages = [make_stage(config, folder, name) for name in config.stages if given_checkpoint(config, name) is None]
        networks = [(stage, build_module(stage, info).network) for stage in stages]
    except Exception:  # what is wrong with the settings is said when all of a stage is rehearsed
        return None
    return _without_gpu(config, folder, networks, info)


def _cpu_hours(stage: StageConfig, network: nn.Module, images: int) -> float:
    """Hours of a stage's passes through its network on this CPU, from a timed one; input and teacher are extra."""
    size, entrance = stage.recipe["image_size"], entrances(network)[0]
    batch = torch.rand(max(1, 16 * 32**2 // size**2), 3, size, size)

    def one_pass() -> float:
        began = time.perf_counter()
        answers = entrance(batch)
        given = [answers] if isinstance(answers, torch.Tensor) else [logits for logits in answers if logits is not None]
        torch.autograd.backward([logits.sum() for logits in given])
        return time.perf_counter() - began

    with uncompiled():
        taken = min(one_pass(), one_pass()) / len(batch)
    passes = 2 if stage.recipe["sam"]["enabled"] else 1
    return float(passes * taken * images * stage.recipe["epochs"] / 3600)


def _with_mode(stages: list[StageConfig]) -> list[StageConfig]:
    """The stages with W&B's mode found out, once for all of them; raises ConfigError where it is none."""
    if (options := stages[0].logger.get("wandb")) is None:
        return stages
    mode = settle_mode(options["mode"])
    return [replace(stage, logger={**stage.logger, "wandb": {**options, "mode": mode}}) for stage in stages]


def _is_begun(stage: StageConfig) -> bool:
    """Whether the stage is resumed: then it has weights of its own to go on with."""
    return (Path(stage.folder) / LAST).exists()


def _shared_out(stage: StageConfig, network: nn.Module) -> list[str]:
    """What becomes of an update's images on the stage's devices, where it matters and the recipe has it otherwise."""
    lines, plan, wanted = [], stage.batches, stage.recipe["images_per_update"]
    if plan.images_per_update != wanted:
        lines.append(difference(f"{stage.name}: images per update", plan.images_per_update, wanted))
    sam, norms = stage.recipe["sam"], nn.BatchNorm1d | nn.BatchNorm2d
    depends = {
        "BatchNorm": any(isinstance(module, norms) for module in network.modules()),
        "SAM": sam["enabled"] and sam["scope"] == "rank",
    }
    on_one = min(stage.recipe["batch_size"], wanted)
    if any(depends.values()) and plan.batch_size != on_one:
        who = " and ".join(name for name, does in depends.items() if does)
        lines.append(
            difference(f"{stage.name}: images a device at once, all that {who} can see,", plan.batch_size, on_one)
        )
    return lines


def rehearse(stage: StageConfig, info: DataInfo, node: str) -> nn.Module:
    """Make everything of a stage once, and throw away all but its network: the student's turn may come hours later.

    Args:
        stage: it.
        info: what the data are.
        node: the configuration's node that the stage is made of, for the sentence.

    Raises:
        ConfigError: something cannot be made of its settings; what timm or torch say of one is within the sentence.
    """
    _refuse_left_over(stage.recipe, node)
    try:
        with without_chatter():  # of a setting that is not refused, training warns again
            return _build_all(stage, info)
    except UserError:
        raise
    except (TypeError, ValueError, AssertionError, ArithmeticError, InstantiationException) as error:
        if isinstance(error.__cause__, UserError):
            raise error.__cause__ from error
        text = " ".join(str(error).split()).rstrip(".")
        raise ConfigError(
            f"The {stage.name} cannot be built as configured ({text}); type deitlt train --cfg job to see its settings."
        ) from error


def _build_all(stage: StageConfig, info: DataInfo) -> nn.Module:
    crop_share(stage.recipe["transforms"]["evaluation"])
    datamodule = build_data(stage)
    datamodule.check_cache(torch.device("cuda" if stage.trainer["accelerator"] == "gpu" else "cpu"))
    datamodule.train_dataloader()
    datamodule.test_dataloader()
    if datamodule.mixing_factory is not None:
        datamodule.mixing_factory(info.num_classes)
    module = build_module(stage, info)
    if not _is_begun(stage):
        initialise_student(stage, module, datamodule)
    module.configure_optimizers()
    _try_own(stage, module)
    own_loggers(stage)  # not made: one may begin to record at once
    build_trainer(stage, build_callbacks(stage, info, Console(quiet=True)), [], watches=False)
    return module.network


def _try_own(stage: StageConfig, module: ClassifierModule) -> None:
    """Ask a network and a loss that are not ours about two images; raises ConfigError for answers of other shapes."""
    recipe, network, classes, size = stage.recipe, module.network, module.info.num_classes, stage.recipe["image_size"]
    if (target := recipe["model"]["_target_"]) not in TARGETS:
        training = network.training
        with torch.no_grad(), uncompiled():
            answer = network.eval()(torch.zeros(2, 3, size, size))
        network.train(training)
        tokens = tuple(getattr(network, "tokens", ())) if stage.kind == "student" else ()
        given = tuple(answer) if isinstance(answer, TokenLogits) else (answer,)
        shapes = [tuple(one.shape) for one in given if isinstance(one, torch.Tensor)]
        if isinstance(answer, TokenLogits) != bool(tokens) or shapes != [(2, classes)] * max(1, len(tokens)):
            wanted = f"TokenLogits, {' and '.join(tokens)} of" if tokens else "logits"
            raise ConfigError(
                f"{target} answers {type(answer).__name__} {shapes} to images [2, 3, {size}, {size}]; have it return "
                f"{wanted} [B, {classes}]."
            )
    whole = module.loss
    loss = whole.cls_loss if isinstance(whole, DistillationLoss) else whole
    if isinstance(loss, AnyLoss):
        is_weighed = not isinstance(whole, DistillationLoss) or module.tokens == ("cls",) or whole.weigh_cls
        logits, weights = torch.zeros(2, classes), torch.ones(classes) if recipe["drw"] and is_weighed else None
        loss.weighted(logits, torch.tensor([0, 1]), weights)
        if recipe["transforms"]["mixing"] is not None:
            loss.weighted(logits, torch.full((2, classes), 1 / classes), weights)


def _refuse_left_over(node: Any, key: str) -> None:
    """Raise ConfigError for an argument that what it is given to does not take: a recipe's delta met another choice."""
    if not isinstance(node, Mapping):
        return
    known = _arguments(str(node["_target_"])) if "_target_" in node else None
    for name in node:
        if known is not None and name not in known and not name.startswith("_"):
            raise ConfigError(
                f"{key}.{name} is nothing that the chosen {key} has; type ~{key}.{name} to take away what the recipe "
                "or an override set, or leave the choice as the recipe has it."
            )
    for name, child in node.items():
        _refuse_left_over(child, f"{key}.{name}")


def _arguments(target: str) -> set[str] | None:
    """What a class or function takes; None where that is anything, or cannot be found."""
    try:
        known = signature(get_object(target)).parameters
    except Exception:  # instantiating it will tell
        return None
    takes_any = any(parameter.kind is Parameter.VAR_KEYWORD for parameter in known.values())
    return None if takes_any else set(known)
