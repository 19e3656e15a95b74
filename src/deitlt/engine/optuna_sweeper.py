"""Hydra's sweeper for Optuna: between its plugin for Optuna 2, which is gone, and one of our own for Optuna 5."""

from deitlt.errors import ConfigError


def register() -> None:
    """Raise ConfigError: there is no sweeper at the moment."""
    raise ConfigError("A search needs a sweeper for Optuna 5, which this commit has not yet; sweep a list of values.")
