"""`deitlt train`: the stages of a run one after the other, then the table and the picture."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from deitlt.checkpoints import TIMM, WANDB, fetch_checkpoint, find_checkpoint, read_card, write_atomically
from deitlt.data.class_order import CLASS_ORDERS
from deitlt.errors import ConfigError
from deitlt.tasks.announcing import announce, say_how_to_upload
from deitlt.tasks.auto_batch import settle_batch
from deitlt.tasks.building import batch_plan, build_data
from deitlt.tasks.devices import choose_compile, choose_precision, count_devices
from deitlt.tasks.hosts import LOST_AFTER, Hosts, follow, leading, place_of, words_typed
from deitlt.tasks.launching import launch_stage
from deitlt.tasks.objective import check_objective
from deitlt.tasks.preemption import preemptible
from deitlt.tasks.recipes import RECIPE_CHOICES, compose_with, difference, differences, leaves
from deitlt.tasks.rehearsal import rehearse
from deitlt.tasks.residence import settle_residence
from deitlt.tasks.results import collect, show, write_results
from deitlt.tasks.run_folder import AUTO, PRUNED, RunFolder
from deitlt.tasks.run_report import write_run_report
from deitlt.tasks.stage_config import (
    StageConfig,
    check_epochs,
    check_run,
    plain,
    refuse_strange_targets,
    stage_recipe,
)
from deitlt.tasks.stage_logging import group_of, settle_loggers
from deitlt.tasks.teachers import check_teacher, check_unseen
from deitlt.types import DataInfo

Plain = dict[str, Any]
# Made absolute, so that the run can be resumed and its checkpoints evaluated from another folder.
PATHS = (
    *("data.root", "data.train_csv", "data.test_csv", "data.train_list", "data.test_list", "data.class_order"),
    *("teacher.checkpoint", "student.checkpoint", "student.init", "student.teacher_view.store"),
)


def main(config: DictConfig) -> None:
    """Train the stages, or go on with a run that was interrupted."""
    console = Console()
    place, words = place_of(config), words_typed(config)
    lost_after = float(OmegaConf.select(config, "trainer.lost_after", default=LOST_AFTER))
    if place is not None and not place.is_first:
        with preemptible(console=console):
            follow(place, words, lost_after)
        return
    with leading(place, words, lost_after) as hosts:
        run, config, changed = _open(config)
        if run.metrics.exists():  # a scheduler may start a finished run again
            console.print(f"{run.path} holds a finished run", markup=False, soft_wrap=True, highlight=False)
            return
        with preemptible(run, console):
            train(config, run, changed, console, hosts)


def _open(config: DictConfig) -> tuple[RunFolder, DictConfig, list[str]]:
    """The run that is to be trained, its configuration, and what that changes in its recipe."""
    if config.resume not in (None, AUTO):
        run = RunFolder(Path(config.resume).expanduser().absolute())
        return run, *_resumed(run)
    _refuse_dated(config)
    run = RunFolder.of_job(config)
    if config.resume == AUTO and run.config.exists():
        return run, *_gone_on(config, run)
    run.refuse_if_used()
    return run, *_fresh(config)


def _refuse_dated(config: DictConfig) -> None:
    """Raise ConfigError where the run's folder is named by the time, by which nobody finds it again."""
    paths = OmegaConf.to_container(config.paths, resolve=False)
    assert isinstance(paths, dict)
    named_by_time = "${now:" in str(paths["output_dir"])
    if config.resume == AUTO and named_by_time and HydraConfig.get().mode != RunMode.MULTIRUN:
        raise ConfigError("resume=auto has to know the run's folder; type paths.output_dir=FOLDER beside it.")


def _fresh(config: DictConfig, fetches: bool = True) -> tuple[DictConfig, list[str]]:
    """The run's configuration and what it changes in its recipe; without fetching, W&B's artifacts stay names."""
    overrides = list(HydraConfig.get().overrides.task)
    choices = HydraConfig.get().runtime.choices
    changed = differences(config, compose_with("train", overrides, RECIPE_CHOICES))
    named = {"experiment": choices.get("experiment"), "method": choices.get("method")}
    config = OmegaConf.create({**plain(config), "recipe": {**named, "differences": changed, "overrides": overrides}})
    for key in PATHS:
        value = OmegaConf.select(config, key)
        value = None if value is None else str(value)
        if str(value).startswith(WANDB) and fetches:
            value = str(fetch_checkpoint(str(value)))  # once: an alias may mean another version when the run is resumed
        is_name = str(value).startswith((TIMM, WANDB)) or (key == "data.class_order" and value in CLASS_ORDERS)
        if value is not None and not is_name:
            OmegaConf.update(config, key, str(Path(value).expanduser().absolute()))
    return config, changed


def _resumed(run: RunFolder) -> tuple[DictConfig, list[str]]:
    moved, others = None, []
    for override in HydraConfig.get().overrides.task:
        if override.startswith("data.root="):
            moved = str(Path(override.partition("=")[2]).expanduser().absolute())
        elif not override.startswith("resume="):
            others.append(override)
    if others:
        raise ConfigError(
            f"A resumed run keeps its own configuration, so {others[0]} has no place; type resume={run.path} alone, "
            "or with data.root=FOLDER where the data were moved."
        )
    content = plain(run.load_for_resume())
    if moved is not None:
        content["data"]["root"] = moved
    refuse_strange_targets(content, str(run.config))
    return OmegaConf.create(content), content["recipe"]["differences"]  # what was looked at, and no interpolation


def _gone_on(config: DictConfig, run: RunFolder) -> tuple[DictConfig, list[str]]:
    """The configuration that a run was begun with, by the very words that are typed again."""
    stored = OmegaConf.load(run.config)
    assert isinstance(stored, DictConfig)
    content = plain(stored)
    refuse_strange_targets(content, str(run.config))
    fresh = _fresh(config, fetches=False)[0]  # an alias may mean another version now, and need a network
    ours, theirs = dict(leaves(fresh)), dict(leaves(stored))
    for key in PATHS:
        if str(ours.get(key)).startswith(WANDB) and _typed(fresh, key) == _typed(stored, key):
            theirs[key] = ours[key]
    for key in sorted(ours.keys() | theirs.keys()):
        if not key.startswith(("resume", "recipe", "data.exclude")) and ours.get(key) != theirs.get(key):
            raise ConfigError(
                f"{run.path} was begun with {key}={theirs.get(key)}, and {key}={ours.get(key)} cannot go on with it; "
                "type the same words, or another paths.output_dir=FOLDER."
            )
    return OmegaConf.create(content), content["recipe"]["differences"]


def _typed(config: DictConfig, key: str) -> list[str]:
    """What was typed for a key; nothing where a file of the configuration says it."""
    overrides: list[str] = OmegaConf.select(config, "recipe.overrides", default=[])
    return [word for word in overrides if word.partition("=")[0].lstrip("+") == key]


def train(
    config: DictConfig, run: RunFolder, changed: list[str], console: Console, hosts: Hosts | None = None
) -> Plain:
    """Run every stage that has no result yet, and write what the run found.

    Everything that can be wrong is looked for before anything is written or trained.
    """
    check_run(config)
    check_objective(config)
    _leave_out_broken(config, run)
    stages = [make_stage(config, run, name) for name in config.stages if _given(config, name) is None]
    if not stages:
        raise ConfigError("Every stage is given as a checkpoint, so nothing is left to train; type deitlt evaluate.")
    info, doubts = _check_stages(config, run, stages)
    stages, batches = _settle_batches(config, run, [settle_residence(stage) for stage in settle_loggers(stages)])
    changed = changed + _batch_differences(stages)
    if not run.config.exists():
        write_atomically(run.config, lambda file: file.write(OmegaConf.to_yaml(config).encode()))
    announce(config, run, stages, info, doubts + batches, changed, console)
    for stage in stages:
        if not run.result(stage.name).exists():
            (run.stage(stage.name) / PRUNED).unlink(missing_ok=True)  # whoever resumes it wants it trained to its end
            try:
                launch_stage(_with_teacher(stage, config, run), console, hosts)
            except KeyboardInterrupt:
                advice = f"type deitlt train resume={run.path}" if run.can_be_resumed else "no epoch was finished"
                console.print(f"interrupted; {advice}", markup=False, soft_wrap=True, highlight=False)
                raise
            if run.pruned is not None:
                console.print(f"{stage.name}: stopped by the search it is a trial of; see {run.pruned}", soft_wrap=True)
                return {}
    results = {stage.name: json.loads(run.result(stage.name).read_text()) for stage in stages}
    metrics = collect(config, info, results, changed)
    write_results(metrics, results, run)
    show(metrics, run, console)
    say_how_to_upload(config, run, console)
    if config.get("report", True):  # older runs have no such key
        write_run_report(run, (_with_teacher(stage, config, run) for stage in stages), console)
    return metrics


def make_stage(config: DictConfig, run: RunFolder, name: str) -> StageConfig:
    """The configuration of one stage, its devices and all that follows from them resolved."""
    recipe = stage_recipe(config, name)
    check_epochs("student" if name == "baseline" else name, recipe)
    trainer = plain(config.trainer)
    wanted = trainer["devices"] if recipe["devices"] is None else recipe["devices"]
    trainer["accelerator"], trainer["devices"] = count_devices(trainer["accelerator"], wanted)
    trainer["precision"] = choose_precision(trainer["precision"], trainer["accelerator"])
    trainer["compile"] = choose_compile(trainer.get("compile", False), trainer["accelerator"])  # older runs have none
    return StageConfig(
        name=name,
        folder=str(run.stage(name)),
        seed=config.seed,
        protocol=config.protocol,
        watch_test=config.watch_test,
        evaluate_every=config.evaluate_every,
        checkpoint_every=config.checkpoint_every,
        data=plain(config.data),
        recipe=recipe,
        trainer=trainer,
        logger=plain(config.logger),
        teacher=None,
        run=plain(config),
        group=group_of(run),
    )


def _leave_out_broken(config: DictConfig, run: RunFolder) -> None:
    """Decode every image file before training does; list those that are to be left out."""
    if not config.data.exclude:
        config.data.exclude = build_data(make_stage(config, run, config.stages[0])).check_files()


def _check_stages(config: DictConfig, run: RunFolder, stages: list[StageConfig]) -> tuple[DataInfo, list[str]]:
    """Open the data, build everything of every stage once, and look into a teacher that was given.

    Returns:
        What the data are, and what of the teacher nobody knows.
    """
    doubts = []
    datamodule = build_data(make_stage(config, run, config.stages[0]))
    info = datamodule.info
    for stage in stages:
        _refuse_store(stage)
        rehearse(stage, info)
    if (teacher := _given(config, "teacher")) is not None:
        found = check_teacher(find_checkpoint(teacher, ("teacher",)), datamodule, plain(config.teacher))
        if any(stage.distils for stage in stages):
            doubts.append(check_unseen(found, plain(config.data)))
    if (student := _given(config, "student")) is not None:
        read_card(find_checkpoint(student, ("student",)))
    return info, [doubt for doubt in doubts if doubt is not None]


def _refuse_store(stage: StageConfig) -> None:
    """Raise ConfigError where the teacher's answers could not be kept: the student's turn may come hours later."""
    store = stage.recipe.get("teacher_view", {}).get("store")
    if store is not None and Path(store).exists() and not Path(store).is_dir():
        raise ConfigError(f"student.teacher_view.store={store} is a file; type student.teacher_view.store=FOLDER.")


def _settle_batches(
    config: DictConfig, run: RunFolder, stages: list[StageConfig]
) -> tuple[list[StageConfig], list[str]]:
    """The stages, each with a number for its batch, and what was found where that is 'auto'."""
    settled = []
    for stage in stages:
        given = _given(config, "teacher") if stage.distils else None
        teacher = make_stage(config, run, "teacher") if stage.distils and given is None else None
        path = None if given is None else str(find_checkpoint(given, ("teacher",)).absolute())
        settled.append(settle_batch(replace(stage, teacher=path), teacher))
    return [stage for stage, _ in settled], [said for _, said in settled if said is not None]


def _given(config: DictConfig, stage: str) -> str | None:
    """The checkpoint that stands for a stage, if one was given; a baseline is always trained."""
    given: str | None = None if stage == "baseline" else config[stage].checkpoint
    return given


def _with_teacher(stage: StageConfig, config: DictConfig, run: RunFolder) -> StageConfig:
    """The stage with the checkpoint that labels its images, given or trained before."""
    if not stage.distils:
        return stage
    given = _given(config, "teacher")
    path = find_checkpoint(given, ("teacher",)) if given else find_checkpoint(run.path, ("teacher",))
    return replace(stage, teacher=str(path.absolute()))


def _batch_differences(stages: list[StageConfig]) -> list[str]:
    """Stages whose devices and batches cannot make the recipe's images per update."""
    plans = [(stage.name, batch_plan(stage), stage.recipe["images_per_update"]) for stage in stages]
    return [
        difference(f"{name}: images per update", plan.images_per_update, wanted)
        for name, plan, wanted in plans
        if plan.images_per_update != wanted
    ]
