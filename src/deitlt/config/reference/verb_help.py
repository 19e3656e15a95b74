"""`deitlt VERB --help`: its commonest commands, its choices and its keys, as the configurations say them."""

import shutil
import textwrap

from omegaconf import OmegaConf

from deitlt.config.compose import config_dir
from deitlt.config.reference.catalogue import PARTS, TOPICS
from deitlt.config.reference.examples import EXAMPLES
from deitlt.config.reference.groups import DELTAS, choices_of, group_comment, groups_of
from deitlt.config.reference.keys import Key, keys_of_group, keys_of_verb

_WIDTH = (72, 110)  # columns; narrower and wider terminals wrap, or leave room
# Keys of groups that are typed often; all others are in `deitlt list keys`.
_COMMON: dict[str, tuple[str, ...]] = {
    "train": (
        *("data.root", "data.imbalance_factor", "data.val_fraction", "trainer.devices", "trainer.precision"),
        *("teacher.epochs", "teacher.batch_size", "teacher.checkpoint", "student.epochs", "student.batch_size"),
        *("student.optimizer.lr", "student.drw.start_epoch", "student.distillation.alpha"),
    ),
    "inspect": ("data.root", "data.imbalance_factor", "data.max_count"),
    "benchmark": ("trainer.devices", "trainer.precision", "student.batch_size"),
}
# Verbs that take a recipe's choices, but whose help leaves most of them to train's.
_SHORT = ("experiment", "method", "data", "trainer")
_RECIPE = ("experiment", "data")  # of the verbs that only ask which data a network knows
_LONGEST = 34  # letters of a key with its default
_MOST = 14  # choices that are named; of more, those that others begin with, and where to see all


def verb_help(verb: str, config_name: str, what: str) -> str:
    """The help page of a verb, for the width of the terminal.

    Args:
        verb: what the user types.
        config_name: its configuration.
        what: what it does, in a clause.
    """
    width = min(max(shutil.get_terminal_size().columns, _WIDTH[0]), _WIDTH[1])
    parts = [f"deitlt {verb} [KEY=VALUE ...]: {what}", _examples(verb, width)]
    if verb == "benchmark":
        parts.append(_table("Parts (part=NAME)", [(e.name, e.what) for e in TOPICS[PARTS].entries], width))
    groups = [(group, _choices(group)) for group in _groups(verb, config_name)]
    parts.append(_table("Choices (GROUP=NAME)", groups, width))
    keys = [_row(key) for key in _keys(verb, config_name)]
    parts.append(_table("Keys (KEY=VALUE), with their defaults", keys, width) + _recipe_note(config_name))
    parts.append(_more(verb))
    return "\n\n".join(parts)


def _recipe_note(config_name: str) -> str:
    """That a recipe stands behind the command already, where one does: the keys' files have other defaults than it."""
    defaults = OmegaConf.select(OmegaConf.load(config_dir() / f"{config_name}.yaml"), "defaults")
    name = next((entry["experiment"] for entry in defaults if "experiment" in entry), None)
    if name is None:
        return ""
    return f"\n  experiment={name} unless another is named; it changes some of these: --cfg job shows all"


def _examples(verb: str, width: int) -> str:
    rows = [(f"deitlt {command}", what) for command, what in EXAMPLES.get(verb, ())]
    longest = max((len(command) for command, _ in rows), default=0)
    if all(longest + len(what) + 4 <= width for _, what in rows):
        lines = [f"  {command:<{longest}}  {what}" for command, what in rows]
    else:
        lines = [line for command, what in rows for line in (f"  {command}", f"      {what}")]
    return "\n".join(["Commands", *lines])


def _groups(verb: str, config_name: str) -> list[str]:
    if verb == "train":
        return groups_of(config_name)
    return [group for group in (_SHORT if _takes_recipes(verb) else _RECIPE) if choices_of(group)]


def _takes_recipes(verb: str) -> bool:
    return verb in _COMMON


def _choices(group: str) -> str:
    """The names of a group's choices; of many, some and the command that lists all."""
    names = [choice.name for choice in choices_of(group)]
    if len(names) > _MOST:
        topic = f"{group}s" if f"{group}s" in TOPICS else group
        return f"{_spread(names)}, ...: deitlt list {topic} shows all {len(names)}"
    said = group_comment(group) if group not in DELTAS else ""
    return ", ".join(names) + (f"  ({said.partition(';')[0]})" if said else "")


def _spread(names: list[str]) -> str:
    """Of many names, those that begin no other's: not imagenet_lt_vit where there is imagenet_lt."""
    alone = [name for name in names if "/" not in name and not any(name.startswith(f"{other}_") for other in names)]
    return ", ".join(alone[:_MOST])


def _keys(verb: str, config_name: str) -> list[Key]:
    """The keys of the verb's file, and the commonest of its groups; a section that says what it is hides its keys."""
    every = keys_of_verb(config_name)
    sections = {key.name for key in every}
    own = [key for key in every if key.name.partition(".")[0] not in sections or "." not in key.name]
    if verb == "benchmark":
        own = [key for key in own if key.name != "part"]  # a table of its own
    if verb == "inspect":
        own = [key for key in own if key.name in ("seed", "paths.output_dir")]
    groups = [group for group in groups_of() if group not in DELTAS] if verb in _COMMON else []
    known = {
        key.name: key for group in reversed(groups) for key in keys_of_group(group)
    }  # the stage's before its parts'
    return own + [known[name] for name in _COMMON.get(verb, ())]


def _row(key: Key) -> tuple[str, str]:
    default = key.default
    shown = f"{key.name}=" + ("" if default == "required" else default)
    name = shown if len(shown) <= _LONGEST else key.name
    if default == "its keys":
        name = f"{key.name}.*"
    return name, key.meaning.partition("; ")[0]


def _table(heading: str, rows: list[tuple[str, str]], width: int) -> str:
    """Two columns, the second wrapped; a name that is too long for the first has a line of its own."""
    column = min(max(len(name) for name, _ in rows), 30) + 4
    lines = [heading]
    for name, text in rows:
        first = f"  {name}".ljust(column)
        wrapped = textwrap.wrap(text, width - column, break_on_hyphens=False) or [""]
        if len(first) > column:
            lines.append(first)
            first = " " * column
        lines.append(f"{first}{wrapped[0]}".rstrip())
        lines += [" " * column + line for line in wrapped[1:]]
    return "\n".join(lines)


def _more(verb: str) -> str:
    rows = [("deitlt train --help", "all groups of choices")] if verb != "train" and _takes_recipes(verb) else []
    rows += [
        ("deitlt list", "what there is to choose from, with a line on each"),
        ("deitlt list keys [PREFIX]", "every key: type, default, meaning"),
        (f"deitlt {verb} ... --cfg job", "the whole configuration, with the overrides beside it"),
        (f"deitlt {verb} --hydra-help", "Hydra's flags: --info, --config-dir, ..."),
    ]
    longest = max(len(command) for command, _ in rows)
    return "\n".join(["More", *(f"  {command:<{longest}}  {what}" for command, what in rows)])
