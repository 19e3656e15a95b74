"""The flags of the verbs that take overrides: Hydra's, and what they make of a command. No torch here."""

import os

from deitlt.config.config_folder import config_dir
from deitlt.engine.processes import SWEEP_VARIABLE
from deitlt.errors import ConfigError, nearest

SWEEP_FLAGS = ("-m", "--multirun")
SHOWING_FLAGS = ("-h", "--help", "--hydra-help", "--version", "-c", "--cfg", "-i", "--info", "--shell-completion")
FLAGS = (  # without the short forms
    *("--help", "--hydra-help", "--version", "--cfg", "--resolve", "--package", "--run", "--multirun", "--info"),
    *("--config-path", "--config-name", "--config-dir", "--shell-completion", "--experimental-rerun"),
)


def check_flags(words: list[str]) -> None:
    """Raise ConfigError for a flag that there is not."""
    for word in words:
        if word.startswith("--") and word.split("=")[0] not in FLAGS:
            raise ConfigError(f"{word} is no flag; {nearest(word, FLAGS)}")


def flags_first(words: list[str]) -> list[str]:
    """-m before all overrides, for Hydra's parser wants those side by side."""
    return sorted(words, key=lambda word: word not in SWEEP_FLAGS)


def runs_a_sweep(words: list[str]) -> bool:
    """Whether the words behind `deitlt train` run a sweep.

    Raises:
        ConfigError: they name a ready sweep, but would train once.
    """
    if any(word.split("=")[0] in SHOWING_FLAGS for word in words):
        return False
    if any(word in SWEEP_FLAGS for word in words):
        return True
    named = next((word for word in words if word.startswith("sweep=") and word != "sweep=null"), None)
    if named is not None and _may_be_sweep(named, words) and SWEEP_VARIABLE not in os.environ:
        raise ConfigError(f"{named} is a sweep, which has many jobs; type deitlt train -m {named}.")
    return False


def _may_be_sweep(named: str, words: list[str]) -> bool:
    """Whether a choice of sweep= is there, or may be in a folder of the user's; Hydra answers one that is not."""
    names = named.partition("=")[2].split(",")
    if any((config_dir() / "sweep" / f"{name}.yaml").is_file() for name in names):
        return True
    return any(word.split("=")[0] == "--config-dir" for word in words)
