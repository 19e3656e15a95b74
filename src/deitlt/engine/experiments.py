"""A recipe that is named to a verb that does not train: its data, and what its networks see."""

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from deitlt.errors import ConfigError


def chosen_recipe() -> str | None:
    """The name that the user gave as experiment=NAME, or None."""
    name: str | None = HydraConfig.get().runtime.choices.get("experiment")
    return name


def named_recipe(config: DictConfig) -> DictConfig | None:
    """The configuration with its data where the user has them, if it names a recipe; else None.

    Raises:
        ConfigError: if the recipe's data need a value that only the user has, such as their folder.
    """
    name = chosen_recipe()
    if name is None:
        return None
    recipe = config.copy()
    if recipe.get("data") is None:
        raise ConfigError(f"experiment={name} names no data; type data=CHOICE with it.")
    if config.data_root is not None:
        recipe.data.root = config.data_root
    if missing := sorted(OmegaConf.missing_keys(recipe.data)):
        key = missing[0].removeprefix("data.")
        raise ConfigError(
            f"experiment={name} has no data.{key}; type {'data_root=FOLDER' if key == 'root' else f'data.{key}=VALUE'} "
            "with it."
        )
    return recipe
