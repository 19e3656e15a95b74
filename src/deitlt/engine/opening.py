"""Opening a run: a fresh one, one that `resume=RUN` names, or by the same words the one that was begun with them."""

from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from deitlt.checkpoints import WANDB, fetch_checkpoint
from deitlt.config.compose import PATHS, RECIPE_CHOICES, compose_with, differences, leaves, make_absolute
from deitlt.config.trust import refuse_strange_targets
from deitlt.engine.run_folder import AUTO, RunFolder
from deitlt.engine.stage_config import plain
from deitlt.errors import ConfigError


def open_run(config: DictConfig) -> tuple[RunFolder, DictConfig, list[str]]:
    """The run that is to be trained, its configuration, and what that changes in its recipe.

    Raises:
        ConfigError: another run lies there, the one that is to go on is finished or was begun with other words, or
            its folder cannot be found again.
        CheckpointError: there is nothing to go on with, or an artifact cannot be had.
    """
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
        value = str(OmegaConf.select(config, key))
        if value.startswith(WANDB) and fetches:  # once: an alias may mean another version when the run is resumed
            OmegaConf.update(config, key, str(fetch_checkpoint(value)))
    make_absolute(config)
    return config, changed


def _resumed(run: RunFolder) -> tuple[DictConfig, list[str]]:
    """The configuration that the run was begun with, where its data may have been moved."""
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
