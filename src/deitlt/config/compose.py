"""Hydra's composition of a verb's configuration: its folder, its flags, its environment, and what recipes differ in."""

import logging
import os
import sys
from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import hydra
from hydra import compose
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

import deitlt
from deitlt.config.keys import walk
from deitlt.config.schema import Train
from deitlt.errors import ConfigError, nearest

SWEEP_JOB = "DEITLT_SWEEP_JOB"  # in the environment of a sweep's job: the id of the process that waits for it
SWEEP_FLAGS = ("-m", "--multirun")
SHOWING_FLAGS = ("-h", "--help", "--hydra-help", "--version", "-c", "--cfg", "-i", "--info", "--shell-completion")
FLAGS = (  # without the short forms
    *("--help", "--hydra-help", "--version", "--cfg", "--resolve", "--package", "--run", "--multirun", "--info"),
    *("--config-path", "--config-name", "--config-dir", "--shell-completion", "--experimental-rerun"),
)
RECIPE_CHOICES = ("experiment", "method")  # overrides that name a recipe rather than change it
# Where the data lie, who reads them and where they are kept: what changes nothing of what a recipe leads to.
FREE = (
    "data.root",
    "data.download",
    "data.num_workers",
    "data.verify",
    "data.cache_on_device",
)
COMPARED = ("data", "teacher", "student", "baseline", "protocol", "trainer.precision")
SCHEMES = ("timm:", "wandb:")  # of values that are no files
PATHS = {  # keys of a run that may name files -> values that are none
    key.name: key.rule.choices
    for key in walk(Train)
    if key.rule.path and key.name.partition(".")[0] in ("data", "teacher", "student")
}


def config_dir() -> Path:
    """The folder of the configurations: inside the installed package, or at the root of a checkout."""
    package = Path(deitlt.__file__).resolve().parent
    return package / "conf" if (package / "conf").is_dir() else package.parents[1] / "conf"


def run_hydra(verb: str, config_name: str, overrides: list[str], task: Callable[[DictConfig], float | None]) -> None:
    """Let Hydra compose the configuration and call the task, once or for each job of a sweep.

    Args:
        verb: as it was typed.
        config_name: the file in conf/ that it begins with.
        overrides: what was typed after the verb.
        task: raises nothing; Hydra would print a line of its own, and end a sweep.

    Raises:
        ConfigError: for a flag that there is not.
        HydraException, OmegaConfBaseException: for what cannot be composed.
    """
    check_flags(overrides)
    run = hydra.main(version_base="1.3", config_path=str(config_dir()), config_name=config_name)(task)
    with _environment([f"deitlt {verb}", *flags_first(overrides)]):
        run()


def check_flags(words: list[str]) -> None:
    """Raise ConfigError for a flag that there is not."""
    for word in words:
        if word.startswith("--") and word.split("=")[0] not in FLAGS:
            raise ConfigError(f"{word} is no flag; {nearest(word, FLAGS)}")


def flags_first(words: list[str]) -> list[str]:
    """-m before all overrides, for Hydra's parser wants those side by side."""
    return sorted(words, key=lambda word: word not in SWEEP_FLAGS)


def runs_a_sweep(words: list[str], *, is_job: bool = False) -> bool:
    """Whether the words behind `deitlt train` run a sweep.

    Args:
        words: flags and overrides.
        is_job: whether they are those of a sweep's job, which name the sweep and run once.

    Raises:
        ConfigError: they name a ready sweep, but would train once.
    """
    if any(word.split("=")[0] in SHOWING_FLAGS for word in words):
        return False
    if any(word in SWEEP_FLAGS for word in words):
        return True
    named = next((word for word in words if word.startswith("sweep=") and word != "sweep=null"), None)
    if named is not None and not is_job and _may_be_sweep(named, words) and not _is_one_job(named, words):
        raise ConfigError(f"{named} is a sweep, which has many jobs; type deitlt train -m {named}.")
    return False


def _may_be_sweep(named: str, words: list[str]) -> bool:
    """Whether a choice of sweep= is there, or may be in a folder of the user's; Hydra answers one that is not."""
    names = named.partition("=")[2].split(",")
    if any((config_dir() / "sweep" / f"{name}.yaml").is_file() for name in names):
        return True
    return any(word.split("=")[0] == "--config-dir" for word in words)


def _is_one_job(named: str, words: list[str]) -> bool:
    """Whether each key that a ready sweep varies has a value of its own beside it, as in a sweep's best command."""
    typed = {key: value for key, _, value in (word.partition("=") for word in words)}
    places = [Path(typed["--config-dir"])] if typed.get("--config-dir") else []
    places += [Path(after) for word, after in pairwise(words) if word in ("--config-dir", "-cd")]
    files = [place / "sweep" / f"{typed['sweep']}.yaml" for place in (config_dir(), *places)]
    file = next((file for file in files if file.is_file()), None)
    varied = None if file is None else OmegaConf.select(OmegaConf.load(file), "hydra.sweeper.params")
    return varied is not None and all(key in typed for key in varied)


@contextmanager
def _environment(argv: list[str]) -> Iterator[None]:
    """Hydra reads the command line, hides what went wrong unless it is told to raise it, and takes over logging."""
    old_argv, old_flag = sys.argv, os.environ.get("HYDRA_FULL_ERROR")
    old_handlers, old_level = logging.root.handlers[:], logging.root.level
    sys.argv = argv
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        yield
    finally:
        sys.argv = old_argv
        logging.root.handlers[:] = old_handlers
        logging.root.setLevel(old_level)
        if old_flag is None:
            del os.environ["HYDRA_FULL_ERROR"]
        else:
            os.environ["HYDRA_FULL_ERROR"] = old_flag


def compose_with(config_name: str, overrides: list[str], keys: Container[str]) -> DictConfig:
    """The configuration with those of the overrides whose keys are named, and without the others.

    With `RECIPE_CHOICES` it is the recipe; with every group of choices, the keys that there are.
    """
    kept = [o for o in overrides if o.lstrip("+~").split("=")[0] in keys]
    if HydraConfig.initialized():  # the user's own folders, where a sweep's jobs are checked
        kept += [o for o in HydraConfig.get().overrides.hydra if o.startswith("hydra.searchpath=")]
    return compose(config_name=config_name, overrides=kept)


def differences(run: DictConfig, recipe: DictConfig) -> list[str]:
    """Each setting of `run` that is not the recipe's, in words."""
    ours, theirs = dict(leaves(run)), dict(leaves(recipe))
    keys = sorted(set(ours) | set(theirs))
    return [
        difference(key, ours.get(key), theirs.get(key))
        for key in keys
        if ours.get(key) != theirs.get(key) and _counts(key)
    ]


def difference(key: str, run: Any, recipe: Any) -> str:
    """One setting that is not the recipe's, in words."""
    return f"{key} is {run}, the recipe has {recipe}"


def _counts(key: str) -> bool:
    return key not in FREE and any(key == part or key.startswith(f"{part}.") for part in COMPARED)


def leaves(config: DictConfig) -> Iterator[tuple[str, Any]]:
    """Each leaf by its dotted key; lists are leaves. What only Hydra can resolve is left out."""
    content = OmegaConf.to_container(config, resolve=False)
    assert isinstance(content, Mapping)
    yield from _below(content, "", config)


def _below(node: Mapping[Any, Any], prefix: str, config: DictConfig) -> Iterator[tuple[str, Any]]:
    for name, value in node.items():
        key = f"{prefix}{name}"
        if key in ("paths", "hydra"):
            continue
        if isinstance(value, Mapping):
            yield from _below(value, f"{key}.", config)
        elif not (isinstance(value, str) and value.startswith(("???", "${"))):  # what follows from another key
            found = OmegaConf.select(config, key)
            yield key, OmegaConf.to_container(found) if OmegaConf.is_config(found) else found


def make_absolute(config: DictConfig) -> None:
    """Make its paths absolute, so that the run can be resumed and its checkpoints evaluated from another folder.

    Args:
        config: the run's, or a part of it; changed in place. Names that are no files stay.
    """
    for key, names in PATHS.items():
        value = OmegaConf.select(config, key)
        if value is not None and not str(value).startswith(SCHEMES) and value not in names:
            OmegaConf.update(config, key, str(Path(value).expanduser().absolute()))
