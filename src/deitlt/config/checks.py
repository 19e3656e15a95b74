"""What is typed, and what is composed of it, is checked against the schema before torch is loaded: a wrong word is one
sentence that says what to type, and so are Hydra's and OmegaConf's complaints, by their types and attributes.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import ConfigCompositionException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from deitlt.config import Content, config_dir, merged
from deitlt.config.compose import follows, plain_content
from deitlt.config.keys import Key, Node, keys_of, walk
from deitlt.config.reference import choice_with, choices_of, groups_of
from deitlt.config.schema import RENAMED, Student, Teacher, Train
from deitlt.config.trust import plugin_folders
from deitlt.config.verbs import SCHEMAS
from deitlt.errors import ConfigError, UserError, nearest, sentence

# Logger -> packages that it needs. MLflow keeps a run's own database by the two others.
LOGGERS = {"tensorboard": ("tensorboard",), "mlflow": ("mlflow", "sqlalchemy", "alembic")}
PLUGINS = ("hydra/sweeper", "hydra/launcher")  # groups of choices that come with packages of their own


def check_overrides(words: Sequence[str], config_name: str, *, sweeps: bool) -> None:
    """Raise ConfigError for what is wrong with overrides by themselves, so that a typo is answered at once.

    Args:
        words: overrides and flags, as they were typed.
        config_name: the verb's file in conf/.
        sweeps: whether several values of a key are several jobs.
    """
    known = {key.name: key for key in walk(SCHEMAS[config_name])}
    own = any(word.startswith(("--config-dir", "-cd")) or "_target_" in word for word in words)
    is_ours = not own and not plugin_folders()
    for override in _parsed(words):
        key = override.key_or_group
        if key.startswith("hydra"):
            continue
        _refuse_renamed(override)
        if override.is_sweep_override() and not sweeps:
            raise ConfigError(_several(override, known.get(key)))
        if is_group(key):
            _check_choice(override, config_name)
        elif key in known and (is_ours or key != "stages"):  # which a user's own files may have more of
            _check_typed(known[key], override)
        elif is_ours and "/" in key:
            raise ConfigError(f"{key} is no group of choices; {nearest(key, groups_of())}")
        elif is_ours and not _may_be(key, known, is_added=override.is_add()):
            raise ConfigError(unknown_key(key, known))


def is_group(key: str) -> bool:
    """Whether an override of this key chooses a file of conf/."""
    return (config_dir() / key).is_dir()


def _parsed(words: Iterable[str]) -> list[Override]:
    """The overrides among the words; what is none is left for Hydra to refuse."""
    typed = [word for word in words if not word.startswith("-") and ("=" in word or word.startswith("~"))]
    return OverridesParser.create().parse_overrides(typed)


def _refuse_renamed(override: Override) -> None:
    """Raise ConfigError for a word that older versions had."""
    key = override.key_or_group
    new = "/".join(".".join(RENAMED.get(word, word) for word in part.split(".")) for part in key.split("/"))
    new = RENAMED.get(new, new)
    if new != key:
        word = (override.input_line or key).replace(key, new, 1)
        raise ConfigError(f"{key} is called {new} now; type {word.replace('transforms=device', 'transforms=batch')}.")


def _several(override: Override, key: Key | None) -> str:
    """What to type where values stand in a row; only some keys take a list."""
    name, values = override.key_or_group, (override.input_line or "").partition("=")[2]
    takes_list = name == "logger" or (key is not None and list in key.types)
    instead = f", or {name}=[{values}] for a list" if takes_list else ""
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
    if not (key.nodes or override.is_delete() or override.is_sweep_override() or follows(value)):
        check_value(key, plain_content(OmegaConf.create({"it": value}))["it"])


def _may_be(key: str, known: Mapping[str, Key], *, is_added: bool) -> bool:
    """Whether it may belong to a node that takes any keys, or, with a plus sign, to what is instantiated."""
    while key := key.rpartition(".")[0]:
        if key in known:
            return any(node.is_open or (is_added and node.targets) for node in known[key].nodes)
    return False


def check_values(run: DictConfig, config_name: str) -> None:
    """Raise ConfigError where a key or value cannot be right, whatever it is that is to be done with it.

    Args:
        run: the configuration as it was composed.
        config_name: the verb's file in conf/.
    """
    content, schema = plain_content(run), SCHEMAS[config_name]
    own = [name for name, node in content.items() if _is_stage(node) and name not in ("teacher", "student")]
    rest = {name: value for name, value in content.items() if name not in own}
    if own and isinstance(rest.get("stages"), list):
        rest["stages"] = [name for name in rest["stages"] if name not in own]
    check_node(rest, schema)
    for name in own:
        node = _extended(name, content)
        check_node(node, Student if "distillation" in node else Teacher, f"{name}.")
    check_targets(run)
    refuse_missing_loggers(content)
    for name in ("teacher", "student", *own):
        _check_rates(name, _extended(name, content) if name in own else content.get(name))
    _refuse_unused(run)
    for name, value in content.items():
        if value == "???":
            raise ConfigError(missing(name))


def _is_stage(node: Any) -> bool:
    """Whether a node is a stage: it says what it extends, or has epochs and a module."""
    return isinstance(node, Mapping) and ("extends" in node or {"epochs", "module"} <= set(node))


def _extended(name: str, content: Content) -> Content:
    """A stage's keys with those of the stage that it extends."""
    base = content[name].get("extends")
    if base is None:
        return dict(content[name])
    if base not in content:
        raise ConfigError(f"{name}.extends={base} is no stage; {nearest(str(base), content)}")
    return merged(_extended(base, content), content[name])


def missing(key: str) -> str:
    """The sentence on a key that has no value."""
    last = key.rpartition(".")[2]
    known = {"checkpoint": "RUN", "images": "FOLDER", "root": "FOLDER", "train_list": "FILE", "test_list": "FILE"}
    known |= {"path": "FOLDER_OR_NAME", "dataset": "NAME"}
    return f"{key} has no value yet; type {key}={known.get(last, 'VALUE')}."


def check_node(content: Content, schema: type[Node], prefix: str = "") -> None:
    """Check the keys of a node, and those below it.

    Args:
        content: a part of the configuration.
        schema: the class that describes it.
        prefix: its dotted name, with a dot behind it.
    """
    known = keys_of(schema, prefix)
    for name, value in content.items():
        if name not in known:
            _refuse_unknown(prefix, name, schema)
        elif not follows(value):
            _check_key(known[name], value)
    if schema.targets:
        return  # what has a default in a signature may be absent
    for name, key in known.items():
        if name not in content and not key.optional:
            _refuse_absent(key, prefix, is_half=len(content) > 0)


def _refuse_unknown(prefix: str, name: str, schema: type[Node]) -> None:
    if name in ("_target_", "_partial_") or schema.is_open:
        return
    if not prefix and name in keys_of(Train):  # a recipe sets it for training, and another verb takes the recipe
        return
    key, node = f"{prefix}{name}", prefix[:-1]
    if not (targets := schema.targets):
        raise ConfigError(unknown_key(key, (found.name for found in walk(schema, prefix))))
    otherwise = f"type ~{key} to take away what a recipe or an override set, or leave the choice as the recipe has it."
    advice = nearest(name, keys_of(schema), otherwise).replace("mean '", f"mean '{node}.")
    raise ConfigError(f"{key} is nothing that {targets[0].rpartition('.')[2]}, the chosen {node}, takes; {advice}")


def unknown_key(key: str, known: Iterable[str]) -> str:
    """The sentence on a key that is none of those that are known."""
    return f"{key} is no key; {nearest(key, known, 'type deitlt list keys to see all.')}"


def _refuse_absent(key: Key, prefix: str, *, is_half: bool) -> None:
    stage, _, node = prefix[:-1].rpartition(".")
    if node in ("drw", "ema") and is_half:  # the recipe changes what the chosen stage has not
        raise ConfigError(
            f"{stage}.{node} has no {key.name.rpartition('.')[2]}, for the {stage} that was chosen has no {node}, "
            f"which the recipe changes; type {stage}.{node}=null."
        )
    raise ConfigError(f"{key.name} is needed; type {key.name}=VALUE instead of taking it away.")


def _check_key(key: Key, value: Any) -> None:
    if value is None or not key.nodes:
        check_value(key, value)
    elif not isinstance(value, Mapping):
        raise ConfigError(f"{key.name}={value} holds no keys; leave {key.name} as it is, or type one of its keys.")
    elif not key.is_part:
        check_node(value, key.nodes[0], f"{key.name}.")
    else:
        for schema in key.nodes:
            if value.get("_target_") in schema.targets:
                check_node(value, schema, f"{key.name}.")


def check_value(key: Key, value: Any) -> None:
    """Raise ConfigError where a value has not the type, is no choice, or is out of range."""
    if value is None:
        if not key.nullable:
            raise ConfigError(f"{key.name}=null says nothing, and it is needed; leave {key.name} as it is.")
        return
    if not key.accepts(value):
        kind = key.kind
        bare = kind.startswith(("true", "text", "keys")) or "|" in kind.partition(" ")[0]
        raise ConfigError(
            f"{key.name}={value} is not {kind if bare else f'a {kind}'}; type {key.name}={key.example}, say."
        )
    takes_numbers = bool({int, float} & set(key.types))
    for one in value if isinstance(value, list) else [value]:
        if isinstance(one, int | float) and not isinstance(one, bool) and not key.allows(one):
            raise ConfigError(f"{key.name}={one} is not {key.range}; type {key.name}={_in_range(key)}.")
        is_text = isinstance(one, str) or not {bool, int, float} & set(key.types)
        if is_text and key.choices and not key.path and str(one) not in key.choices:
            said = f"{key.name}={one} is no choice" if one == value else f"{key.name} has {one!r}, which is no choice"
            advice = nearest(str(one), key.choices)
            raise ConfigError(f"{said}; {advice.rstrip('.')}, or a number." if takes_numbers else f"{said}; {advice}")


def _in_range(key: Key) -> str:
    """What to type in place of a number that is out of range."""
    if key.at_least is not None and key.at_most is None and key.below is None:
        return f"{key.at_least:g} or more"
    return key.example if key.allows(float(key.example)) else f"{key.at_least or key.at_most:g}"


def check_targets(run: DictConfig) -> None:
    """Raise ConfigError where smoothing would make every class a right answer, each target being above 0."""
    threshold = OmegaConf.select(run, "student.loss.threshold")
    smoothing = OmegaConf.select(run, "student.transforms.mixing.smoothing", default=0)
    if threshold == 0 and smoothing:
        raise ConfigError(
            f"student.loss.threshold=0 with student.transforms.mixing.smoothing={smoothing} makes every class right; "
            "type student.transforms.mixing.smoothing=0 with it."
        )


def refuse_missing_loggers(content: Content) -> None:
    """Raise ConfigError for a logger that is chosen and not installed."""
    chosen = content.get("logger") or {}
    for name, packages in LOGGERS.items():
        missing = [package for package in packages if find_spec(package) is None]
        if missing and chosen.get(name) is not None:
            raise ConfigError(
                f"logger={name} needs {missing[0]}, which is not installed; type pip install 'deitlt[{name}]'."
            )


def _check_rates(name: str, node: Any) -> None:
    """Raise ConfigError where a stage's learning rate would rise while its schedule lets it fall."""
    found = OmegaConf.create(node or {})
    rate, least = (OmegaConf.select(found, key) for key in ("optimizer.lr", "schedule.min_lr"))
    if isinstance(rate, int | float) and isinstance(least, int | float) and rate < least:
        raise ConfigError(
            f"{name}.optimizer.lr={rate} is below {name}.schedule.min_lr={least}, to which it would rise; type "
            f"{name}.schedule.min_lr=0 with it, or a larger rate."
        )


def holds_out(data: Mapping[str, Any] | DictConfig) -> bool:
    """Whether data of this configuration have a validation split."""
    return bool(data.get("val_fraction") or data.get("val_list"))


def _refuse_unused(run: DictConfig) -> None:
    """Raise ConfigError for words on the data that have no effect beside the others."""
    data: DictConfig = OmegaConf.select(run, "data") or OmegaConf.create()
    if data.get("imbalance_kind") == "step" and data.get("imbalance_factor") is None:
        raise ConfigError(
            "data.imbalance_kind=step makes no tail where data.imbalance_factor=null leaves the classes as they are; "
            "type data.imbalance_factor=0.01, say, with it."
        )
    if data.get("val_list") is not None and data.get("val_fraction"):
        raise ConfigError(
            f"data.val_list={data.val_list} and data.val_fraction={data.val_fraction} both say which images are held "
            "out; type data.val_fraction=0 or data.val_list=null with it."
        )
    if data.get("groups") == "shots" and data.get("group_cuts") is not None:
        raise ConfigError(
            f"data.group_cuts={data.group_cuts} cuts nothing beside data.groups=shots, which has cuts of its own; "
            "type data.groups=paper with it, or leave out data.group_cuts."
        )


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
        return next(_misused(config_name, overrides), "") or _first_line(error.__cause__ or error)
    if isinstance(error, OmegaConfBaseException):
        return f"The configuration does not hold together at {error.full_key!r}: {_first_line(error)}"
    return " ".join(str(error).split())


def _unknown_choice(error: MissingConfigException) -> str:
    group, _, name = (error.missing_cfg_file or "").rpartition("/")
    if group in PLUGINS and not any(name in option for option in error.options or []):
        return f"{group}={name} is not installed; type pip install 'deitlt[sweep]'."
    # Hydra has no options of a list's.
    found = error.options or [choice.name for choice in (choices_of(group, plugin_folders()) if group else ())]
    options = [option for option in found if option != "base"]
    if not options:
        return f"{error.missing_cfg_file} is no configuration; see deitlt --help."
    return f"{group}={name} is no choice; {nearest(name, options)}"


def _misused(config_name: str, words: Sequence[str]) -> Iterator[str]:
    """What each override says that cannot stand beside the choices: the first is what Hydra has complained of."""
    overrides = _parsed(words)
    choices = [o.input_line or "" for o in overrides if is_group(o.key_or_group)]
    config = _choices_alone(config_name, choices)
    taken = [f"{o.key_or_group}." for o in overrides if o.is_delete() or o.value() is None]
    for override in overrides:
        key, is_chosen = override.key_or_group, is_group(override.key_or_group)
        parent, _, name = key.rpartition(".")
        node = OmegaConf.select(config, parent) if parent else config
        is_there = isinstance(node, DictConfig) and name in node.keys()  # noqa: SIM118, without a value, too
        if override.is_delete() and override.value() is not None and (is_chosen or is_there):
            if is_chosen:
                yield f"{key} is another choice than the one to leave out; type ~{key} for any."
            elif override.value() != OmegaConf.select(config, key):
                yield f"{key} has another value than the one to take away; type ~{key} for any."
        elif override.is_add() and is_there:
            yield f"{key} is a key already; type {key}=VALUE without the plus sign."
        elif not (is_chosen or is_there or override.is_add()):
            yield _taken_away(override, config_name, choices) or _not_chosen(override, config_name, config)
        elif is_there and key.startswith(tuple(taken)):
            yield f"{key} is no key beside what else was typed; leave it out, or what takes it away."


def _taken_away(override: Override, config_name: str, choices: list[str]) -> str:
    """The sentence on a key of what a chosen file, such as a method's, sets to null; '' where a choice can bring it."""
    parent, _, name = override.key_or_group.rpartition(".")
    choice = choice_with(override.key_or_group)
    if not choice or OmegaConf.select(_choices_alone(config_name, [*choices, choice]), parent) is not None:
        return ""
    usual = plain_content(OmegaConf.select(_choices_alone(config_name, [choice]), parent))
    values = {**usual, name: override.value()}
    whole = ",".join(
        f"{key}:{str(value).lower() if isinstance(value, bool) else value}" for key, value in values.items()
    )
    return f"{parent} is null with what is chosen, so {override.input_line} has no place; type '{parent}={{{whole}}}'."


def _not_chosen(override: Override, config_name: str, config: DictConfig) -> str:
    """The sentence on a key that the chosen files lack."""
    key = override.key_or_group
    known = {found.name: found for found in walk(SCHEMAS[config_name])}
    if (own := key.replace(".", "_")) in known:  # data_root of the verbs that take a checkpoint's data
        return f"{key} is no key of a checkpoint's own data; type {own}={override.value()}."
    if choice := choice_with(key):
        group = choice.partition("=")[0]
        choices = OmegaConf.select(config, "hydra.runtime.choices", default={})
        chosen = f", {group}={choices[group] or 'null'}" if group in choices else ""  # of several, Hydra names none
        return f"{key} is no key of what is chosen{chosen}; type {choice} {override.input_line}."
    if key in known or _may_be(key, known, is_added=False):
        return f"{key} is no key of what is chosen; type +{key}=VALUE to add it."
    return unknown_key(key, known)


def _choices_alone(config_name: str, choices: list[str]) -> DictConfig:
    """The configuration with the user's choices, or without them if they are wrong, too."""
    for attempt in (choices, []):
        GlobalHydra.instance().clear()
        with initialize_config_dir(str(config_dir()), version_base="1.3"):
            try:
                return compose(config_name, overrides=attempt, return_hydra_config=True)
            except ConfigCompositionException:
                continue
    return OmegaConf.create()


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
