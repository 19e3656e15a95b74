"""Hydra's and OmegaConf's complaints as one sentence that says what to type, by their types and attributes."""

from collections.abc import Iterable, Iterator, Sequence

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import ConfigCompositionException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from deitlt.config.checks import check_value, missing, unknown_key
from deitlt.config.compose import config_dir
from deitlt.config.keys import Key, target_of, walk
from deitlt.config.reference import choice_with, groups_of
from deitlt.config.schema import GONE, RENAMED
from deitlt.config.verbs import SCHEMAS
from deitlt.errors import ConfigError, UserError, nearest, sentence

PLUGINS = ("hydra/sweeper", "hydra/launcher")  # groups of choices that come with packages of their own


def check_overrides(words: Sequence[str], config_name: str, *, sweeps: bool) -> None:
    """Raise ConfigError for what is wrong with overrides by themselves, so that a typo is answered at once.

    Args:
        words: overrides and flags, as they were typed.
        config_name: the verb's file in conf/.
        sweeps: whether several values of a key are several jobs.
    """
    known = {key.name: key for key in walk(SCHEMAS[config_name])}
    is_ours = not any(word.startswith(("--config-dir", "-cd")) or "_target_" in word for word in words)
    for override in _parsed(words):
        key = override.key_or_group
        if key.startswith("hydra"):
            continue
        _refuse_renamed(override)
        if override.is_sweep_override() and not sweeps:
            raise ConfigError(_several(override, known.get(key)))
        if is_group(key):
            _check_choice(override, config_name)
        elif "/" in key and is_ours:
            raise ConfigError(f"{key} is no group of choices; {nearest(key, groups_of())}")
        elif key in known:
            if is_ours or key != "stages":  # which a user's own files may have more of
                _check_typed(known[key], override)
        elif "/" not in key and not _may_be(key, known, is_ours=is_ours and not override.is_add()):
            raise ConfigError(unknown_key(key, known))


def is_group(key: str) -> bool:
    """Whether an override of this key chooses a file of conf/."""
    return (config_dir() / key).is_dir()


def _parsed(words: Iterable[str]) -> list[Override]:
    """The overrides among the words; what is none is left for Hydra to refuse."""
    found = []
    for word in words:
        if not word.startswith("-") and ("=" in word or word.startswith("~")):
            found += OverridesParser.create().parse_overrides([word])
    return found


def _refuse_renamed(override: Override) -> None:
    """Raise ConfigError for a word that older versions had."""
    key = override.key_or_group
    if key in GONE:
        raise ConfigError(f"{key} is no key any more; {GONE[key]}.")
    new = "/".join(".".join(RENAMED.get(word, word) for word in part.split(".")) for part in key.split("/"))
    new = RENAMED.get(new, new)
    if new != key:
        raise ConfigError(f"{key} is called {new} now; type {(override.input_line or key).replace(key, new, 1)}.")


def _several(override: Override, key: Key | None) -> str:
    """What to type where values stand in a row; only some keys take a list."""
    name, values = override.key_or_group, (override.input_line or "").partition("=")[2]
    instead = f", or {name}=[{values}] for a list" if key is not None and list in key.types else ""
    return f"{name}={values} is several values; type -m beside it for a job each{instead}."


def _check_choice(override: Override, config_name: str) -> None:
    group = override.key_or_group
    if override.is_add() and group in groups_of(config_name):
        raise ConfigError(f"{group} is chosen already; type {group}=NAME without the plus sign.")
    if not override.is_delete() and override.value() is None:
        raise ConfigError(f"{group}=null is no choice; type ~{group} to leave it out.")


def _check_typed(key: Key, override: Override) -> None:
    """Check a value that is one, and no interpolation."""
    value = override.value()
    follows = isinstance(value, str) and value.startswith(("${", "???"))
    if key.is_leaf and not (override.is_delete() or override.is_sweep_override() or follows):
        check_value(key, OmegaConf.create({"it": value}).it)


def _may_be(key: str, known: dict[str, Key], *, is_ours: bool) -> bool:
    """Whether it may belong to what is instantiated, which may take any keys, or be the user's own."""
    while key := key.rpartition(".")[0]:
        if key in known:
            node = known[key].node
            is_open = node is not None and getattr(node, "is_open", False)
            parts = known[key].rule.parts or ((node,) if node is not None and (is_open or target_of(node)) else ())
            return any(not is_ours or getattr(cls, "is_open", False) for cls in parts)
    return False


def explain(error: Exception, config_name: str, overrides: Sequence[str]) -> str:
    """What is wrong with the overrides, and what to type instead.

    Args:
        error: what Hydra or OmegaConf raised.
        config_name: the verb's file in conf/.
        overrides: what the user typed.
    """
    if isinstance(error.__cause__, UserError):  # a part of ours that Hydra was to make
        return sentence(error.__cause__)
    if isinstance(error, MissingConfigException):
        return _unknown_choice(error)
    if isinstance(error, OverrideParseException):
        advice = "type KEY=VALUE, and a value with special characters in quotes: 'KEY=\"VALUE\"'"
        return f"{error.override!r} is no override; {advice}."
    if isinstance(error, MissingMandatoryValue) and error.full_key:
        return missing(error.full_key)
    if isinstance(error, ConfigCompositionException):
        said = next(_misused(config_name, overrides), None)
        return said or _first_line(error.__cause__ or error)
    if isinstance(error, OmegaConfBaseException):
        return f"The configuration does not hold together at {error.full_key!r}: {_first_line(error)}"
    return " ".join(str(error).split())


def _unknown_choice(error: MissingConfigException) -> str:
    group, _, name = (error.missing_cfg_file or "").rpartition("/")
    if group in PLUGINS:
        return f"{group}={name} is not installed; type pip install 'deitlt[sweep]'."
    options = [option for option in error.options or [] if option != "base"]
    if not options:
        return f"{error.missing_cfg_file} is no configuration; see deitlt --help."
    return f"{group}={name} is no choice; {nearest(name, options)}"


def _misused(config_name: str, words: Sequence[str]) -> Iterator[str]:
    """What each override says that cannot stand beside the choices: the first is what Hydra has complained of."""
    overrides = _parsed(words)
    config = _choices_alone(config_name, [o.input_line or "" for o in overrides if is_group(o.key_or_group)])
    for override in overrides:
        key = override.key_or_group
        if is_group(key):
            if override.is_delete() and override.value() is not None:
                yield f"{key} is another choice than the one to leave out; type ~{key} for any."
            continue
        parent, _, name = key.rpartition(".")
        node = OmegaConf.select(config, parent) if parent else config
        is_there = isinstance(node, DictConfig) and name in node.keys()  # noqa: SIM118, without a value, too
        if override.is_add():
            if is_there:
                yield f"{key} is a key already; type {key}=VALUE without the plus sign."
        elif not is_there:
            yield _not_chosen(key, config_name)
        elif override.is_delete():
            if override.value() is not None and override.value() != OmegaConf.select(config, key):
                yield f"{key} has another value than the one to take away; type ~{key} for any."
        elif is_there and _is_taken(key, overrides):
            yield f"{key} is no key beside what else was typed; leave it out, or what takes it away."


def _is_taken(key: str, overrides: Sequence[Override]) -> bool:
    """Whether another override takes away a node that the key lies in."""
    taken = [o.key_or_group for o in overrides if o.is_delete() or o.value() is None]
    return any(key.startswith(f"{node}.") for node in taken)


def _not_chosen(key: str, config_name: str) -> str:
    """The sentence on a key that the chosen files lack."""
    if choice := choice_with(key):
        return f"{key} is no key of what is chosen; type {choice} beside it."
    known = [found.name for found in walk(SCHEMAS[config_name])]
    if key in known:
        return f"{key} is no key of what is chosen; type +{key}=VALUE to add it."
    return unknown_key(key, known)


def _choices_alone(config_name: str, choices: list[str]) -> DictConfig:
    """The configuration with the user's choices, or without them if they are wrong, too."""
    for attempt in (choices, []):
        GlobalHydra.instance().clear()
        with initialize_config_dir(str(config_dir()), version_base="1.3"):
            try:
                return compose(config_name, overrides=attempt)
            except ConfigCompositionException:
                continue
    return OmegaConf.create()


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
