"""What is composed is checked against the schema before torch is loaded: OmegaConf refuses, a sentence says it."""

from collections.abc import Iterable
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ValidationError

from deitlt.config.keys import Key, keys_of, target_of, walk
from deitlt.config.schema import Student, Train
from deitlt.config.verbs import SCHEMAS
from deitlt.errors import ConfigError, nearest


def check_values(run: DictConfig, config_name: str) -> None:
    """Raise ConfigError where a key or value cannot be right, whatever it is that is to be done with it.

    Args:
        run: the configuration as it was composed.
        config_name: the verb's file in conf/.
    """
    own = [name for name in map(str, run) if name not in keys_of(SCHEMAS[config_name]) and _is_stage(run, name)]
    for name in own:
        check_node(run[name], Student, f"{name}.", is_delta=True)
    check_node(_without(run, own), SCHEMAS[config_name])
    check_targets(run)
    for key in map(str, run):
        if OmegaConf.is_missing(run, key):
            raise ConfigError(missing(key))


def _is_stage(run: DictConfig, name: str) -> bool:
    """Whether a node is a stage of the user's: it says what it extends, or epochs and a module."""
    node = OmegaConf.select(run, name)
    return isinstance(node, DictConfig) and ("extends" in node or {"epochs", "module"} <= set(node))


def _without(run: DictConfig, stages: list[str]) -> DictConfig:
    """The configuration without stages of the user's."""
    if not stages:
        return run
    rest = run.copy()
    OmegaConf.set_struct(rest, False)
    rest.stages = [name for name in run.stages if name not in stages]
    for name in stages:
        del rest[name]
    return rest


def missing(key: str) -> str:
    """The sentence on a key that has no value."""
    last = key.rpartition(".")[2]
    known = {"checkpoint": "RUN", "images": "FOLDER", "root": "FOLDER", "train_list": "FILE", "test_list": "FILE"}
    return f"{key} has no value yet; type {key}={known.get(last, 'VALUE')}."


def check_node(node: DictConfig, schema: type, prefix: str = "", *, is_delta: bool = False) -> None:
    """Check the keys of a node, and those below it.

    Args:
        node: a part of the configuration.
        schema: the class that describes it.
        prefix: its dotted name, with a dot behind it.
        is_delta: whether it holds only what it changes in another.
    """
    known = keys_of(schema, prefix)
    for name in map(str, node):
        if name not in known:
            _refuse_unknown(prefix, name, schema)
        elif not OmegaConf.is_missing(node, name) and not OmegaConf.is_interpolation(node, name):
            _check_key(known[name], node[name], is_delta=is_delta or known[name].name == "baseline")
    if target_of(schema) or is_delta:
        return  # what has a default in a signature, or in what is changed, may be absent
    for name, key in known.items():
        if name not in node.keys() and not key.rule.optional:  # noqa: SIM118, what has no value yet is not `in` it
            _refuse_absent(key, prefix, is_half=len(node) > 0)


def _refuse_unknown(prefix: str, name: str, schema: type) -> None:
    if name in ("_target_", "_partial_") or getattr(schema, "is_open", False):
        return
    if not prefix and name in keys_of(Train):  # a recipe sets it for training, and another verb takes the recipe
        return
    key, node = f"{prefix}{name}", prefix[:-1]
    if not (target := target_of(schema)):
        raise ConfigError(unknown_key(key, (found.name for found in walk(schema, prefix))))
    otherwise = f"type ~{key} to take away what a recipe or an override set, or leave the choice as the recipe has it."
    advice = nearest(name, keys_of(schema), otherwise).replace("mean '", f"mean '{node}.")
    raise ConfigError(f"{key} is nothing that {target.rpartition('.')[2]}, the chosen {node}, takes; {advice}")


def unknown_key(key: str, known: Iterable[str]) -> str:
    """The sentence on a key that is none of those that are known."""
    return f"{key} is no key; {nearest(key, known, 'type deitlt list keys to see all.')}"


def _refuse_absent(key: Key, prefix: str, *, is_half: bool) -> None:
    node = prefix[:-1]
    if node.rpartition(".")[2] in ("drw", "ema") and is_half:  # the recipe changes what the chosen stage has not
        stage = node.partition(".")[0]
        raise ConfigError(
            f"{node} has no {key.last}, for the {stage} that was chosen has no {node.rpartition('.')[2]}, which the "
            f"recipe changes; type {node}=null."
        )
    raise ConfigError(f"{key.name} is needed; type {key.name}=VALUE instead of taking it away.")


def _check_key(key: Key, value: Any, *, is_delta: bool) -> None:
    if value is None or key.is_leaf:
        check_value(key, value)
    elif not isinstance(value, DictConfig):
        raise ConfigError(f"{key.name}={value} holds no keys; leave {key.name} as it is, or type one of its keys.")
    elif key.node is not None and not target_of(key.node):
        check_node(value, key.node, f"{key.name}.", is_delta=is_delta)
    else:
        _check_part(key, value)


def _check_part(key: Key, value: DictConfig) -> None:
    """Check the keys of what is instantiated, if the schema knows it."""
    target = value.get("_target_")
    parts = [key.node] if key.node is not None else key.rule.parts
    for schema in parts:
        if target is None or target_of(schema) == target:
            if target is not None:
                check_node(value, schema, f"{key.name}.")
            return


def check_value(key: Key, value: Any) -> None:
    """Have OmegaConf check a value's type, then look at choices and range."""
    if value is None:
        if not key.nullable and not (key.rule.parts and key.rule.optional):
            raise ConfigError(f"{key.name}=null says nothing, and it is needed; leave {key.name} as it is.")
        return
    try:
        typed = OmegaConf.structured(key.owner)
        typed[key.last] = value
        right = str in key.types or list in key.types or Any in key.types or typed[key.last] == value  # '3' is no 3
    except ValidationError:
        right = False
    if not right:
        shown = OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
        raise ConfigError(f"{key.name}={shown} is not {_article(key)}; type {key.name}={key.example}, say.")
    for one in value if OmegaConf.is_list(value) else [value]:
        is_number = isinstance(one, int | float) and bool({bool, int, float} & set(key.types))
        if key.rule.choices and not key.rule.path and not is_number and str(one) not in key.rule.choices:
            said = f"{key.name} has {one!r}, which is no choice" if one != value else f"{key.name}={one} is no choice"
            or_number = ", or a number." if {int, float} & set(key.types) else ""
            advice = nearest(str(one), key.rule.choices)
            raise ConfigError(f"{said}; {advice.rstrip('.') + or_number if or_number else advice}")
        if isinstance(one, int | float) and not isinstance(one, bool) and not key.rule.allows(one):
            raise ConfigError(f"{key.name}={one} is not {key.rule.range}; type {key.name}={_in_range(key)}.")


def _article(key: Key) -> str:
    """The type in words, as it stands behind 'is not'."""
    said = key.kind
    return said if said.startswith(("true", "text", "keys")) or "|" in said.partition(" ")[0] else f"a {said}"


def _in_range(key: Key) -> str:
    """What to type in place of a number that is out of range."""
    rule = key.rule
    if rule.at_least is not None and rule.at_most is None and rule.below is None:
        return f"{rule.at_least:g} or more"
    return key.example if rule.allows(float(key.example)) else f"{rule.at_least or rule.at_most:g}"


def check_targets(run: DictConfig) -> None:
    """Raise ConfigError where smoothing would make every class a right answer, each target being above 0."""
    threshold = OmegaConf.select(run, "student.loss.threshold")
    smoothing = OmegaConf.select(run, "student.transforms.mixing.smoothing", default=0)
    if threshold == 0 and smoothing:
        raise ConfigError(
            f"student.loss.threshold=0 with student.transforms.mixing.smoothing={smoothing} makes every class right; "
            "type student.transforms.mixing.smoothing=0 with it."
        )
