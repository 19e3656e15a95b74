"""Hydra's composition of a configuration: its flags, its environment, and what a run and its recipe differ in."""

import logging
import os
import sys
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hydra
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict

from deitlt.config import Content, config_dir
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
FREE = ("data.root", "data.download", "data.num_workers", "data.verify", "data.cache_on_device")
COMPARED = ("data.", "teacher.", "student.", "baseline.", "protocol", "trainer.precision")
RECIPE_HAS = ", the recipe has "
SCHEMES = ("timm:", "wandb:", "hf:")  # of values that are no files
PATHS = {  # keys of a run that may name files -> values that are none
    key.name: key.choices for key in walk(Train) if key.path and key.name.startswith(("data.", "teacher.", "student."))
}


def _in_proportion(rate: float, images: int, images_per_update: int) -> float:
    """The learning rate `rate` of `images` an update, for an update of others."""
    return rate * images_per_update / images


# In conf/: ${in_proportion:3.0e-3,2048,${..images_per_update}}
OmegaConf.register_new_resolver("in_proportion", _in_proportion, replace=True)


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
    for word in overrides:
        if word.startswith("--") and word.split("=")[0] not in FLAGS:
            raise ConfigError(f"{word} is no flag; {nearest(word, FLAGS)}")
    if any(
        word.startswith("resume=") for word in overrides
    ):  # the run's own data have it, be they not those chosen here
        overrides = [f"++{word}" if word.startswith("data.root=") else word for word in overrides]
    with _environment([f"deitlt {verb}", *overrides]):
        if not any(word.startswith(("-", "hydra")) for word in overrides):
            _run_plainly(config_name, overrides, task)
            return
        names_folder = [flag in ("--config-dir", "-cd") for flag in ("", *overrides)]  # of the word before each
        in_order = sorted(  # its parser wants overrides together
            zip(overrides, names_folder, strict=False),
            key=lambda pair: not (pair[1] or pair[0] in (*SWEEP_FLAGS, "--config-dir", "-cd")),
        )
        sys.argv[1:] = [word for word, _ in in_order]
        hydra.main(version_base="1.3", config_path=str(config_dir()), config_name=config_name)(task)()


def _run_plainly(config_name: str, overrides: list[str], task: Callable[[DictConfig], float | None]) -> None:
    """Compose once and call the task; Hydra's own main composes twice, to find a mode that nobody has typed."""
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        config = compose(config_name, overrides=overrides, return_hydra_config=True)
        HydraConfig.instance().set_config(config)
        try:
            config = config.copy()
            with open_dict(config):
                del config["hydra"]
            task(config)
        finally:
            HydraConfig.instance().cfg = None


def quoted(value: object) -> str:
    """A value as Hydra reads it back, whatever is in it."""
    text = str(value).replace("'", "\\'")
    return f"'{text}'"


def runs_a_sweep(words: list[str]) -> bool:
    """Whether the words behind `deitlt train` run a sweep, and do not only show something."""
    flags = {word.split("=")[0] for word in words}
    return not flags.isdisjoint(SWEEP_FLAGS) and flags.isdisjoint(SHOWING_FLAGS)


def refuse_unflagged_sweep() -> None:
    """Raise ConfigError where a ready sweep was named, but trains once, with nothing typed for what it varies."""
    job = HydraConfig.get()
    named = f"sweep={job.runtime.choices.get('sweep')}"
    typed = {word.partition("=")[0] for word in job.overrides.task}  # all of it, in a sweep's job and its best command
    if named in job.overrides.task and not typed.issuperset(job.sweeper.get("params") or {}):
        raise ConfigError(f"{named} is a sweep, which has many jobs; type deitlt train -m {named}.")


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
    ours, theirs = leaves(run), leaves(recipe)
    keys = sorted(key for key in ours.keys() | theirs.keys() if key.startswith(COMPARED) and key not in FREE)
    # What follows from another key is compared where the other side has a value of its own.
    found = {key: (_value(run, ours, key), _value(recipe, theirs, key)) for key in keys}
    return [difference(key, *pair) for key, pair in found.items() if pair[0] != pair[1]]


def _value(config: DictConfig, known: Mapping[str, Any], key: str) -> Any:
    """The value of a key among the leaves that are known, or what it follows from; None where there is none."""
    value = known[key] if key in known else OmegaConf.select(config, key)
    return None if OmegaConf.is_config(value) else value


def in_typed_words(changed: Sequence[str], overrides: Sequence[str]) -> list[str]:
    """Differences from a recipe in the words that made them, each once; those that no word made stay as they are.

    Args:
        changed: as `differences` says them.
        overrides: what was typed, without what names the recipe.
    """
    typed = {word.lstrip("+~").partition("=")[0].replace("/", "."): word for word in overrides}
    said: dict[str, str] = {}
    for change in changed:
        key, recipe = change.partition(" is ")[0], change.rpartition(RECIPE_HAS)[2]
        above = [found for found in typed if f"{key}.".startswith(f"{found}.")]
        if not above:
            said[change] = change
            continue
        word = typed[max(above, key=len)]
        said[word] = f"{word}{RECIPE_HAS}{recipe}" if key in above else word
    return list(said.values())


def difference(key: str, run: Any, recipe: Any) -> str:
    """One setting that is not the recipe's, in words."""
    return f"{key} is {run}{RECIPE_HAS}{recipe}"


def leaves(config: DictConfig) -> dict[str, Any]:
    """Each leaf by its dotted key; lists are leaves. What follows from another key is left out."""

    def below(node: Content, prefix: str) -> Iterator[tuple[str, Any]]:
        for name, value in node.items():
            if isinstance(value, Mapping):
                yield from below(value, f"{prefix}{name}.")
            elif not follows(value):
                yield f"{prefix}{name}", value

    return dict(below(plain_content(config), ""))


def plain_content(node: DictConfig) -> dict[str, Any]:
    """A node as plain dicts, lists and values, with `???` and interpolations as the text that they are."""
    content = OmegaConf.to_container(node, resolve=False)
    assert isinstance(content, dict)
    return {str(name): value for name, value in content.items()}


def follows(value: Any) -> bool:
    """Whether a value is to come: from another key, or from who types it."""
    return isinstance(value, str) and value.startswith(("${", "???"))


def make_absolute(config: DictConfig) -> None:
    """Make its paths absolute, so that the run can be resumed and its checkpoints evaluated from another folder.

    Args:
        config: the run's, or a part of it; changed in place. Names that are no files stay.
    """
    for key, names in PATHS.items():
        value = OmegaConf.select(config, key)
        if key == "data.path" and value is not None and not Path(value).expanduser().exists():
            continue  # a name on a hub
        if value is not None and not str(value).startswith(SCHEMES) and value not in names:
            OmegaConf.update(config, key, str(Path(value).expanduser().absolute()))
