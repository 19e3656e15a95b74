"""What a run changes in the recipe that it names: overrides, and what its devices make of the batches.

No torch here: types are checked before it is loaded.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from hydra import compose
from omegaconf import DictConfig, OmegaConf

from deitlt.errors import ConfigError

RECIPE_CHOICES = ("experiment", "method")  # overrides that name a recipe rather than change it
# What changes neither the weights that a recipe leads to nor what is reported of them.
FREE = (
    "data.root",
    "data.download",
    "data.num_workers",
    "data.verify",
    "teacher.devices",
    "teacher.batch_size",
    "teacher.checkpoint",
    "student.devices",
    "student.batch_size",
    "student.checkpoint",
)
COMPARED = ("data", "teacher", "student", "baseline", "protocol", "trainer.precision")


def compose_recipe(config_name: str, overrides: list[str]) -> DictConfig:
    """The configuration with the recipe's name among the overrides, and without the others."""
    named = [o for o in overrides if o.lstrip("+").split("=")[0] in RECIPE_CHOICES]
    return compose(config_name=config_name, overrides=named)


def differences(run: DictConfig, recipe: DictConfig) -> list[str]:
    """Each setting of `run` that is not the recipe's, in words."""
    ours, theirs = dict(_flat(run)), dict(_flat(recipe))
    keys = sorted(set(ours) | set(theirs))
    return [
        difference(key, ours.get(key), theirs.get(key))
        for key in keys
        if ours.get(key) != theirs.get(key) and _counts(key)
    ]


def difference(key: str, run: Any, recipe: Any) -> str:
    """One setting that is not the recipe's, in words."""
    return f"{key} is {run}, the recipe has {recipe}"


def check_types(run: DictConfig, recipe: DictConfig) -> None:
    """Raise ConfigError where a number or a switch was given as something else."""
    theirs = dict(_flat(recipe))
    for key, value in _flat(run):
        wanted = theirs.get(key)
        if value is None or wanted is None or type(value) is type(wanted):
            continue
        kinds = {bool: "true or false", int: "a whole number", float: "a number"}
        is_number = type(wanted) is float and type(value) is int
        if type(wanted) in kinds and not is_number and not key.endswith(".devices"):
            raise ConfigError(f"{key}={value} is not {kinds[type(wanted)]}; type {key}={wanted}, say.")


def _counts(key: str) -> bool:
    return key not in FREE and any(key == part or key.startswith(f"{part}.") for part in COMPARED)


def _flat(config: DictConfig) -> Iterator[tuple[str, Any]]:
    """Each leaf by its dotted key; lists are leaves. What only Hydra can resolve is left out."""
    content = OmegaConf.to_container(config, resolve=False)
    assert isinstance(content, Mapping)
    yield from _leaves(content, "", config)


def _leaves(node: Mapping[Any, Any], prefix: str, config: DictConfig) -> Iterator[tuple[str, Any]]:
    for name, value in node.items():
        key = f"{prefix}{name}"
        if key in ("paths", "hydra"):
            continue
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{key}.", config)
        elif not (isinstance(value, str) and value.startswith(("???", "${"))):  # what follows from another key
            found = OmegaConf.select(config, key)
            yield key, OmegaConf.to_container(found) if OmegaConf.is_config(found) else found
