"""The recipe that is measured, with further changes: as if the user had typed them."""

from collections.abc import Sequence

from hydra import compose
from hydra.core.hydra_config import HydraConfig
from hydra.errors import MissingConfigException
from omegaconf import DictConfig, OmegaConf

from deitlt.config.messages import explain
from deitlt.errors import ConfigError

VERB = "benchmark"


def changed(changes: Sequence[str]) -> DictConfig:
    """The command's configuration with further overrides; they replace those of the same key.

    Raises:
        ConfigError: one of them names a choice that there is not.
    """
    try:
        config = compose(VERB, overrides=merged(HydraConfig.get().overrides.task, changes))
    except MissingConfigException as error:  # an OSError, too, which would be taken for the system's
        raise ConfigError(explain(error, VERB, list(changes))) from error
    OmegaConf.resolve(config)
    return config


def merged(overrides: Sequence[str], changes: Sequence[str]) -> list[str]:
    """Overrides with further ones, without those of the same key, which Hydra would not take twice."""
    replaced = {key_of(override) for override in changes}
    return [*(override for override in overrides if key_of(override) not in replaced), *changes]


def key_of(override: str) -> str:
    """What an override sets: 'trainer.devices' of 'trainer.devices=2'."""
    return override.lstrip("+~").partition("=")[0]
