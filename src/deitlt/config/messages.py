"""Hydra's complaints as one sentence that says what to type. No torch here."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import (
    ConfigCompositionException,
    InstantiationException,
    MissingConfigException,
    OverrideParseException,
)
from omegaconf import OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from deitlt.config.checks import PLACEHOLDERS
from deitlt.config.compose import config_dir
from deitlt.config.reference import all_keys, choices_of, groups_of, keys_of_group
from deitlt.errors import UserError, nearest, sentence

# Choices that come with packages of their own.
PLUGINS = (r"hydra/sweeper/optuna", r"hydra/launcher/(joblib|submitit_local|submitit_slurm)")

# Words of groups and keys that have another name now.
RENAMED = {"views": "transforms", "teacher_view": "teacher_input"}

# What Hydra says of an override that cannot stand so -> what to type.
_MISUSED = (
    (r"An item is already at '([^']+)'", "{0} is a key already; type {0}=VALUE without the plus sign."),
    (r"^(\S+) appears more than once", "{0} is chosen already; type {0}=NAME without the plus sign."),
    (r"Could not delete '([^'=]+)=.*No match", "{0} is another choice than the one to leave out; type ~{0} for any."),
    (r"The value of '([^']+)' is .* and not", "{0} has another value than the one to take away; type ~{0} for any."),
    (r"Sweep parameters '(.+)' requires", "{0} is several values; type -m beside it for a job each."),
)


def explain(error: Exception, config_name: str, overrides: list[str]) -> str:
    """What is wrong with the overrides, and what to type instead.

    Args:
        error: what Hydra or OmegaConf raised.
        config_name: the verb's configuration.
        overrides: what the user typed.
    """
    if isinstance(error.__cause__, UserError):  # a part of ours that Hydra was to make
        return sentence(error.__cause__)
    if match := re.search(r"Ambiguous value for argument '([^'=]+)=([^']+)'", str(error)):
        return _several(*match.groups())
    for pattern, words in _MISUSED:
        if match := re.search(pattern, str(error)):
            return words.format(*match.groups())
    if isinstance(error, MissingConfigException):
        return _unknown_choice(error)
    if isinstance(error, OverrideParseException):
        advice = "type KEY=VALUE, and a value with special characters in quotes: 'KEY=\"VALUE\"'"
        return f"{error.override!r} is no override; {advice}."
    if isinstance(error, MissingMandatoryValue):
        key = getattr(error, "full_key", None) or _last_word(str(error))
        return f"{key} has no value yet; type {key}={PLACEHOLDERS.get(key.rpartition('.')[2], 'VALUE')}."
    if isinstance(error, ConfigCompositionException):
        return _unknown_key(error, config_name, overrides)
    if isinstance(error, OmegaConfBaseException):
        return f"The configuration does not hold together at {error.full_key!r}: {_first_line(error)}"
    if isinstance(error, InstantiationException):
        return " ".join(str(error).split())
    return _first_line(error)


def _several(key: str, values: str) -> str:
    """What to type where values stand in a row; only some keys take a list."""
    takes_list = any(known.name == key and "list" in known.type for known in all_keys())
    instead = f", or {key}=[{values}] for a list" if takes_list else ""
    return f"{key}={values} is several values; type -m beside it for a job each{instead}."


def _unknown_choice(error: MissingConfigException) -> str:
    missing = error.missing_cfg_file or ""
    group, _, name = missing.rpartition("/")
    if any(re.fullmatch(pattern, missing) for pattern in PLUGINS):
        return f"{group}={name} is not installed; type pip install 'deitlt[sweep]'."
    options = [o for o in error.options or [] if o != "base"]
    if not options:
        return f"{missing} is no configuration; see deitlt --help."
    return f"{group}={name} is no choice; {nearest(name, options)}"


def _unknown_key(error: Exception, config_name: str, overrides: list[str]) -> str:
    match = re.search(r"Could not (?:override|delete|delete from config\.) '([^'=]+)", str(error))
    if match is None:
        return _first_line(error)
    key = match[1]
    if (new := re.sub(r"\w+", lambda word: RENAMED.get(word[0], word[0]), key)) != key:
        return f"{key} is now called {new}; type {new} instead."
    known = _known_keys(config_name, overrides)
    if "/" in key:
        known = [str(p.relative_to(config_dir())) for p in config_dir().rglob("*") if p.is_dir()]
        return f"{key} is no group of choices; {nearest(key, known)}"
    if key in known:
        return f"{key} is no key beside what else was typed; leave it out, or what takes it away."
    if choice := _choice_with(key, config_name):
        return f"{key} is no key of what is chosen; type {choice} beside it."
    return f"{key} is no key; {nearest(key, known, f'type deitlt {config_name} --cfg job to see all keys.')}"


def _choice_with(key: str, config_name: str) -> str:
    """The choice that brings a key which the chosen ones lack; empty where none does."""
    groups = [group for group in groups_of(config_name) if key.startswith(f"{group.replace('/', '.')}.")]
    for group in reversed(groups):  # a stage's parts before the stage
        defaults = next((known.defaults for known in keys_of_group(group) if known.name == key), {})
        having = {name for names in defaults.values() for name in names}
        if found := next((choice.override for choice in choices_of(group) if choice.name in having), ""):
            return found
    return ""


def _known_keys(config_name: str, overrides: list[str]) -> list[str]:
    """Every key of the configuration with the user's choices, or without them if they are wrong, too."""
    chosen = [o for o in overrides if re.fullmatch(r"[\w/]+=[\w/]+", o) and _is_group(o)]
    for attempt in (chosen, []):
        try:
            GlobalHydra.instance().clear()
            with initialize_config_dir(str(config_dir()), version_base="1.3"):
                content = OmegaConf.to_container(compose(config_name, overrides=attempt), resolve=False)
        except Exception:
            continue
        assert isinstance(content, Mapping)
        return list(_keys(content, ""))
    return []


def _is_group(override: str) -> bool:
    return (config_dir() / override.split("=")[0]).is_dir()


def _keys(node: Mapping[Any, Any], prefix: str) -> Iterator[str]:
    for name, value in node.items():
        yield f"{prefix}{name}"
        if isinstance(value, Mapping):
            yield from _keys(value, f"{prefix}{name}.")


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def _last_word(text: str) -> str:
    return text.strip().splitlines()[0].split()[-1]
