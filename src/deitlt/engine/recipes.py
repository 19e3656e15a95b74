"""What a run changes in the recipe that it names. No torch here."""

from collections.abc import Container, Iterator, Mapping
from typing import Any

from hydra import compose
from omegaconf import DictConfig, OmegaConf

RECIPE_CHOICES = ("experiment", "method")  # overrides that name a recipe rather than change it
# Where the data lie, who reads them and where they are kept: what changes nothing of what a recipe leads to.
FREE = (
    "data.root",
    "data.download",
    "data.num_workers",
    "data.verify",
    "data.resident",
    "data.decoder",
    "student.teacher_view.store",
)
COMPARED = ("data", "teacher", "student", "baseline", "protocol", "trainer.precision")


def compose_with(config_name: str, overrides: list[str], keys: Container[str]) -> DictConfig:
    """The configuration with those of the overrides whose keys are named, and without the others.

    With `RECIPE_CHOICES` it is the recipe; with every group of choices, the keys that there are.
    """
    kept = [o for o in overrides if o.lstrip("+~").split("=")[0] in keys]
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
