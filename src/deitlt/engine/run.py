"""A run's life: it is opened or gone on with, checked as a whole, its stages are trained, and its results written."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from inspect import Parameter, signature
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from hydra.types import RunMode
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from deitlt.checkpoints import (
    check_start,
    check_teacher,
    check_unseen,
    find_checkpoint,
    read_spec,
    write_atomically,
)
from deitlt.config.compose import (
    PATHS,
    RECIPE_CHOICES,
    compose_with,
    difference,
    differences,
    leaves,
    make_absolute,
)
from deitlt.config.trust import refuse_strange_targets
from deitlt.data import LongTailDataModule
from deitlt.engine.build import (
    LAST,
    batch_plan,
    build_callbacks,
    build_data,
    build_module,
    build_trainer,
    initialise_student,
)
from deitlt.engine.launch import from_first_rank, is_first, join
from deitlt.engine.logs import RunConsole, run_log, without_chatter
from deitlt.engine.objective import check_objective
from deitlt.engine.results import collect, show, write_results, write_run_report
from deitlt.engine.run_folder import AUTO, PRUNED, RunFolder
from deitlt.engine.stage import run_stage
from deitlt.engine.stage_config import (
    STAGE_FILE,
    Plain,
    StageConfig,
    check_run,
    given_checkpoint,
    make_stage,
    node_of,
    plain,
    with_teacher,
)
from deitlt.engine.stage_logging import settle_loggers
from deitlt.errors import ConfigError, UserError
from deitlt.tracking import WANDB, fetch_checkpoint
from deitlt.types import DataInfo


@dataclass(frozen=True)
class Opened:
    """A run that is to be trained: its folder, its configuration, and what that changes in its recipe."""

    folder: RunFolder
    config: Plain
    changed: list[str]


@dataclass(frozen=True)
class Checked:
    """A run that nothing is known to be wrong with.

    stages: those to train, nothing of them 'auto' any more. info: what the data are. doubts: lines for the terminal, on
    what nobody knows. changed: what the run changes in its recipe, the stages' images per update included.
    """

    stages: list[StageConfig]
    info: DataInfo
    doubts: list[str]
    changed: list[str]


def train_run(opened: Opened) -> None:
    """Train a run in this rank, stage after stage, in one process group.

    Raises:
        UserError: what cannot be done.
        Preempted, KeyboardInterrupt: it was stopped.
    """
    join(opened.config["trainer"]["accelerator"])
    Run(opened).train()


class Run:
    """A run at work, in each of its ranks; the first one looks, writes and speaks.

    Args:
        opened: it.
    """

    def __init__(self, opened: Opened) -> None:
        self.folder = opened.folder
        self.config: DictConfig = OmegaConf.create(opened.config)
        self.changed = opened.changed
        self.console: Console = RunConsole(quiet=not is_first())

    def train(self) -> None:
        """Look for everything that can be wrong, train every stage that has no result yet, write what was found."""
        with self.folder.held() as hold:
            checked, self.config = from_first_rank(lambda: (self.check(hold), self.config))
            rank = dist.get_rank() if dist.is_initialized() else 0
            with run_log(self.folder.log, rank):
                if is_first():
                    self._announce(checked)
                for stage in checked.stages:
                    if not self._train_stage(stage):
                        return
                if is_first():
                    self._conclude(checked)

    def check(self, hold: Any) -> Checked:
        """Check the run as a whole, before anything is written or trained; then take its folder.

        Args:
            hold: takes the folder for this process.

        Raises:
            UserError: what is wrong.
        """
        if self.folder.config.exists():
            hold()
        config, folder = self.config, self.folder
        check_run(config)
        check_objective(config)
        datamodule = self._open_data()
        stages = [make_stage(config, folder, name) for name in config.stages if given_checkpoint(config, name) is None]
        if not stages:
            raise ConfigError(
                "Every stage is given as a checkpoint, so nothing is left to train; type deitlt evaluate."
            )
        doubts = self._look_into(stages, datamodule)
        stages = settle_loggers(stages)
        if not folder.config.exists():
            hold()
            text = OmegaConf.to_yaml(config).encode()
            write_atomically(folder.config, lambda file: file.write(text))
        return Checked(stages, datamodule.info, doubts, self.changed + _batch_differences(stages))

    def _open_data(self) -> LongTailDataModule:
        """The data without their broken images; where none are listed, every file is decoded to find them."""
        first = self.config.stages[0]
        datamodule = build_data(make_stage(self.config, self.folder, first))
        if not self.config.data.exclude and (broken := datamodule.check_files()):
            self.config.data.exclude = broken
            datamodule = build_data(make_stage(self.config, self.folder, first))
        return datamodule

    def _look_into(self, stages: list[StageConfig], datamodule: LongTailDataModule) -> list[str]:
        """Build everything of every stage once, and look into the checkpoints that were given; what nobody knows."""
        config, doubts = self.config, []
        for stage in stages:
            rehearse(stage, datamodule.info, node_of(config, stage.name))
            if not _is_begun(stage):
                doubts.append(check_start(stage.recipe.get("init"), stage.data))
        if (teacher := given_checkpoint(config, "teacher")) is not None:
            path = find_checkpoint(teacher, ("teacher",))
            known = check_teacher(path, datamodule, plain(config.teacher)).spec.data
            if any(stage.distils for stage in stages):
                doubts.append(check_unseen("teacher", path, known, plain(config.data)))
        if (student := given_checkpoint(config, "student")) is not None:
            read_spec(find_checkpoint(student, ("student",)))
        return [doubt for doubt in dict.fromkeys(doubts) if doubt is not None]  # student and baseline start alike

    def _say(self, text: str) -> None:
        self.console.print(text, highlight=False, soft_wrap=True, markup=False)

    def _announce(self, checked: Checked) -> None:
        """Say what is about to be trained, and where it departs from its recipe."""
        data, counts = self.config.data, checked.info.counts
        self._say(f"run: {self.folder.path}")
        self._say(
            f"data: {data.name}, {sum(counts)} training images in {len(counts)} classes, "
            f"{max(counts)} to {min(counts)} a class"
        )
        asked, found = data.imbalance_factor, min(counts) / max(counts)
        if asked is not None and not 0.8 < found / asked < 1.25:
            self._say(f"data: imbalance {1 / asked:g} was asked for, but the classes have images for {1 / found:.3g}")
        if data.exclude:
            self._say(f"data: {len(data.exclude)} broken image files are left out")
        for stage in checked.stages:
            self._say(f"{stage.name}: {stage.recipe['epochs']} epochs, {batch_plan(stage)}")
        for line in [*checked.doubts, *(f"not as in the recipe: {change}" for change in checked.changed)]:
            self._say(line)

    def _train_stage(self, stage: StageConfig) -> bool:
        """Train a stage to its end, if it has no result; whether the next one is to be trained."""

        def open_stage() -> StageConfig | None:
            if self.folder.result(stage.name).exists():
                return None
            (self.folder.stage(stage.name) / PRUNED).unlink(missing_ok=True)  # whoever resumes it wants it to its end
            opened = with_teacher(stage, self.config, self.folder)
            opened.save(Path(stage.folder) / STAGE_FILE)
            return opened

        opened = from_first_rank(open_stage)
        if opened is None:
            return True
        try:
            run_stage(opened, self.console)
        except KeyboardInterrupt:
            advice = f"type deitlt train resume={self.folder.path}"
            self._say(f"interrupted; {advice if self.folder.can_be_resumed else 'no epoch was finished'}")
            raise
        pruned = from_first_rank(lambda: self.folder.pruned)
        if pruned is not None:
            self._say(f"{stage.name}: stopped by the search it is a trial of; see {pruned}")
        return pruned is None

    def _conclude(self, checked: Checked) -> None:
        """Write metrics.json, tables and pictures, and print the table."""
        folder, config = self.folder, self.config
        results = {stage.name: json.loads(folder.result(stage.name).read_text()) for stage in checked.stages}
        metrics = collect(config, checked.info, results, checked.changed)
        write_results(metrics, results, folder)
        show(metrics, folder, self.console)
        if config.logger.wandb is not None:
            from deitlt.tracking.wandb import upload_hint  # W&B is imported only where it is used

            if hint := upload_hint(folder.path):
                self._say(hint)
        if config.get("report", True):  # older runs have no such key
            write_run_report(folder, (with_teacher(stage, config, folder) for stage in checked.stages), self.console)


def _batch_differences(stages: list[StageConfig]) -> list[str]:
    """Stages whose devices and batches cannot make the recipe's images per update."""
    plans = [(stage.name, batch_plan(stage), stage.recipe["images_per_update"]) for stage in stages]
    return [
        difference(f"{name}: images per update", plan.images_per_update, wanted)
        for name, plan, wanted in plans
        if plan.images_per_update != wanted
    ]


def _is_begun(stage: StageConfig) -> bool:
    """Whether the stage is resumed: then it has weights of its own to go on with."""
    return (Path(stage.folder) / LAST).exists()


def rehearse(stage: StageConfig, info: DataInfo, node: str) -> None:
    """Make everything of a stage once and throw it away: the student's turn may come hours later.

    Args:
        stage: it.
        info: what the data are.
        node: the configuration's node that the stage is made of, for the sentence.

    Raises:
        ConfigError: something cannot be made of its settings.
    """
    _refuse_left_over(stage.recipe, node)
    with _as_user_error(stage), without_chatter():  # of a setting that is not refused, training warns again
        datamodule = build_data(stage)
        datamodule.check_cache(torch.device("cuda" if stage.trainer["accelerator"] == "gpu" else "cpu"))
        datamodule.train_dataloader()
        datamodule.test_dataloader()
        if datamodule.mixing_factory is not None:
            datamodule.mixing_factory(info.num_classes)
        module = build_module(stage, info)
        if not _is_begun(stage):
            initialise_student(stage, module)
        module.configure_optimizers()
        build_trainer(stage, build_callbacks(stage, info, Console(quiet=True)), [], watches=False)


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


@contextmanager
def _as_user_error(stage: StageConfig) -> Iterator[None]:
    """What timm or torch say of a setting, in one sentence; nothing but settings has gone in so far."""
    try:
        yield
    except UserError:
        raise
    except (TypeError, ValueError, AssertionError, ArithmeticError, InstantiationException) as error:
        if isinstance(error.__cause__, UserError):
            raise error.__cause__ from error
        text = " ".join(str(error).split()).rstrip(".")
        raise ConfigError(
            f"The {stage.name} cannot be built as configured ({text}); type deitlt train --cfg job to see its settings."
        ) from error


def open_run(config: DictConfig) -> Opened:
    """The run that is to be trained: a fresh one, the one that `resume=RUN` names, or by the same words one begun.

    Raises:
        ConfigError: another run lies there, the one that is to go on is finished or was begun with other words, or
            its folder cannot be found again.
        CheckpointError: there is nothing to go on with, or an artifact cannot be had.
    """
    if config.resume not in (None, AUTO):
        return _resumed(RunFolder(Path(config.resume).expanduser().absolute()))
    goes_on = config.resume == AUTO or int(os.environ.get("TORCHELASTIC_MAX_RESTARTS", 0)) > 0
    if goes_on and _is_dated(config):
        asked = "resume=auto has" if config.resume == AUTO else "A run that torchrun may start again has"
        raise ConfigError(f"{asked} to know the run's folder; type paths.output_dir=FOLDER beside it.")
    folder = RunFolder.of_job(config)
    if goes_on and folder.config.exists():
        return _gone_on(config, folder)
    folder.refuse_if_used()
    return _fresh(config, folder)


def _is_dated(config: DictConfig) -> bool:
    """Whether the run's folder is named by the time, by which nobody finds it again."""
    paths = OmegaConf.to_container(config.paths, resolve=False)
    assert isinstance(paths, dict)
    return "${now:" in str(paths["output_dir"]) and HydraConfig.get().mode != RunMode.MULTIRUN


def _fresh(config: DictConfig, folder: RunFolder, fetches: bool = True) -> Opened:
    """A new run; without fetching, W&B's artifacts stay names."""
    overrides = list(HydraConfig.get().overrides.task)
    choices = HydraConfig.get().runtime.choices
    changed = differences(config, compose_with("train", overrides, RECIPE_CHOICES))
    named = {"experiment": choices.get("experiment"), "method": choices.get("method")}
    config = OmegaConf.create({**plain(config), "recipe": {**named, "differences": changed, "overrides": overrides}})
    for key in PATHS:
        value = str(OmegaConf.select(config, key))
        if value.startswith(WANDB) and fetches:  # once: an alias may mean another version when the run is resumed
            OmegaConf.update(config, key, str(fetch_checkpoint(value)))
    make_absolute(config)
    return Opened(folder, plain(config), changed)


def _resumed(folder: RunFolder) -> Opened:
    """A run with the configuration that it was begun with, where its data may have been moved."""
    moved, others = None, []
    for override in HydraConfig.get().overrides.task:
        if override.startswith("data.root="):
            moved = str(Path(override.partition("=")[2]).expanduser().absolute())
        elif not override.startswith("resume="):
            others.append(override)
    if others:
        raise ConfigError(
            f"A resumed run keeps its own configuration, so {others[0]} has no place; type resume={folder.path} alone, "
            "or with data.root=FOLDER where the data were moved."
        )
    content = plain(folder.load_for_resume())
    if moved is not None:
        content["data"]["root"] = moved
    refuse_strange_targets(content, str(folder.config))
    return Opened(folder, content, content["recipe"]["differences"])  # what was looked at, and no interpolation


def _gone_on(config: DictConfig, folder: RunFolder) -> Opened:
    """A run that was begun by the very words that are typed again."""
    stored = OmegaConf.load(folder.config)
    assert isinstance(stored, DictConfig)
    content = plain(stored)
    refuse_strange_targets(content, str(folder.config))
    fresh = OmegaConf.create(_fresh(config, folder, fetches=False).config)  # an alias may mean another version now
    ours, theirs = dict(leaves(fresh)), dict(leaves(stored))
    for key in PATHS:
        if str(ours.get(key)).startswith(WANDB) and _typed(fresh, key) == _typed(stored, key):
            theirs[key] = ours[key]
    for key in sorted(ours.keys() | theirs.keys()):
        if not key.startswith(("resume", "recipe", "data.exclude")) and ours.get(key) != theirs.get(key):
            raise ConfigError(
                f"{folder.path} was begun with {key}={theirs.get(key)}, and {key}={ours.get(key)} cannot go on with "
                "it; type the same words, or another paths.output_dir=FOLDER."
            )
    return Opened(folder, content, content["recipe"]["differences"])


def _typed(config: DictConfig, key: str) -> list[str]:
    """What was typed for a key; nothing where a file of the configuration says it."""
    overrides: list[str] = OmegaConf.select(config, "recipe.overrides", default=[])
    return [word for word in overrides if word.partition("=")[0].lstrip("+") == key]
