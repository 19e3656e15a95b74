"""What there is to choose from and what each key means: the schema with the defaults of conf/, for help and docs."""

import json
import shutil
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from deitlt.config.compose import config_dir
from deitlt.config.examples import EXAMPLES
from deitlt.config.keys import Key, keys_of, walk
from deitlt.config.schema import Train
from deitlt.config.verbs import SCHEMAS, Recipe
from deitlt.errors import ConfigError, nearest

# Groups whose files change what others introduce, and introduce no key themselves.
DELTAS = {
    "experiment": "a recipe: what it changes in the rest, by name; ~experiment: nothing",
    "method": "DeiT-LT or one of the baselines, as what it changes in the recipe",
    "sweep": "with -m, a question that a ready sweep answers",
}
REQUIRED = "required"


@dataclass(frozen=True)
class Choice:
    """One file of a group: its name as it is typed, and what its own first sentence says."""

    group: str
    name: str
    path: Path

    @property
    def override(self) -> str:
        """What to type."""
        return f"{self.group}={self.name}"

    @property
    def what(self) -> str:
        """The first sentence of the comment that the file begins with."""
        lines = self.path.read_text(encoding="utf-8").splitlines()
        words = [line.lstrip("# ") for line in lines[: _length_of_title(lines)] if not line.startswith("# @package")]
        return " ".join(words).partition(". ")[0].rstrip(".") + "."


def _length_of_title(lines: Sequence[str]) -> int:
    return next((i for i, line in enumerate(lines) if not line.startswith("#")), len(lines))


@cache
def groups_of(config_name: str = "train") -> list[str]:
    """The groups of choices that a verb's configuration has, those within a group behind it."""
    keys = walk(SCHEMAS[config_name])
    names = [key.name.replace(".", "/") for key in keys if not key.is_leaf and not key.name.startswith("baseline")]
    deltas = [name for name in DELTAS if name != "sweep" or issubclass(SCHEMAS[config_name], Train)]
    return [name for name in dict.fromkeys([*names, *deltas]) if choices_of(name)]


def choices_of(group: str) -> list[Choice]:
    """The choices of a group, sorted; of a group of changes also those in its folders, as teacher/NAME."""
    folder = config_dir() / group
    paths = sorted(folder.rglob("*.yaml") if group in DELTAS else folder.glob("*.yaml"))
    names = [path.relative_to(folder).with_suffix("").as_posix() for path in paths]
    named = [(name, path) for name, path in zip(names, paths, strict=True) if name != "base"]
    return [Choice(group, name, path) for name, path in sorted(named, key=lambda pair: ("/" in pair[0], pair[0]))]


def group_comment(group: str) -> str:
    """What a group chooses."""
    if group in DELTAS:
        return DELTAS[group]
    found = next((key for key in walk(Train) if key.name == group.replace("/", ".")), None)
    return found.rule.meaning if found else ""


@cache
def _content(path: Path) -> DictConfig:
    """A file with the files of its own folder that it begins with; nothing is resolved."""
    own = OmegaConf.load(path)
    assert isinstance(own, DictConfig)
    beside = [path.parent / f"{name}.yaml" for name in own.pop("defaults", None) or [] if isinstance(name, str)]
    content = OmegaConf.merge(*(_content(other) for other in beside if other.is_file() and other != path), own)
    assert isinstance(content, DictConfig)
    return content


def usual_choice(group: str) -> str:
    """The choice of a group where none is typed; empty where several files name one."""
    parent, _, name = group.rpartition("/")
    file = f"{parent}/{usual_choice(parent)}.yaml" if parent else "train.yaml"
    entries = OmegaConf.select(OmegaConf.load(config_dir() / file), "defaults", default=[])
    return next((str(entry[name]) for entry in entries if OmegaConf.is_dict(entry) and name in entry), "")


def choice_with(key: str) -> str:
    """The choice whose file has a key that others of its group lack; empty where there is none."""
    for group in reversed(groups_of()):
        prefix = f"{group.replace('/', '.')}."
        if key.startswith(prefix) and group not in DELTAS:
            having = [choice for choice in choices_of(group) if _raw(_content(choice.path), key.removeprefix(prefix))]
            if having:
                return having[0].override
    return ""


def _raw(content: DictConfig, key: str) -> tuple[Any] | None:
    """A key's value as the file has it, in a tuple; None where the file has no such key."""
    node: Any = OmegaConf.to_container(content, resolve=False)
    for word in key.split("."):
        if not isinstance(node, Mapping) or word not in node:
            return None
        node = node[word]
    return (node,)


@dataclass(frozen=True)
class Described:
    """A key with its defaults: the value as it is typed -> the choices that have it (none where it is all of them)."""

    key: Key
    defaults: dict[str, tuple[str, ...]]

    @property
    def name(self) -> str:
        """The dotted name."""
        return self.key.name

    @property
    def default(self) -> str:
        """The first default; empty where no file has one."""
        return next(iter(self.defaults), "")

    @property
    def shown(self) -> str:
        """All defaults as Markdown."""
        return "; ".join(
            (value if value in (REQUIRED, "its keys") else f"`{value}`")
            + (f" in {', '.join(f'`{name}`' for name in names)}" if names else "")
            for value, names in self.defaults.items()
        )


def keys_of_verb(config_name: str) -> list[Described]:
    """The keys that a verb has beside the groups of choices."""
    taken = {group.split("/")[0] for group in groups_of(config_name)} - set(DELTAS)
    own = SCHEMAS[config_name]
    shared = set(keys_of(Train)) if own is not Train and issubclass(own, Train) else set()
    content = _content(config_dir() / f"{config_name}.yaml")
    keys = [key for key in walk(own) if key.name.partition(".")[0] not in taken | shared]
    described = [_described(key, key.name, {"": content}) for key in keys]
    return [found for found in described if found.defaults or not found.name.startswith("baseline.")]


def keys_of_group(group: str) -> list[Described]:
    """The keys of all choices of a group, each once, without those of the groups within it."""
    prefix = f"{group.replace('/', '.')}."
    inner = tuple(f"{other.replace('/', '.')}" for other in groups_of() if other.startswith(f"{group}/"))
    files = {choice.name: _content(choice.path) for choice in choices_of(group)}
    usual = usual_choice(group)
    found: dict[str, Described] = {}
    for key in walk(Train):
        within = any(key.name == name or key.name.startswith(f"{name}.") for name in inner)
        if key.name.startswith(prefix) and not within and key.name not in found:
            found[key.name] = _described(key, key.name.removeprefix(prefix), files, usual)
    return [one for one in found.values() if one.defaults or not group.endswith("transforms")]


def _described(key: Key, name: str, files: Mapping[str, DictConfig], usual: str = "") -> Described:
    """A key with the values of files that stand for each other: the usual choice's first, then the commonest."""
    values: dict[str, list[str]] = {}
    for choice, content in files.items():
        if raw := _raw(content, name):
            values.setdefault(_shown(raw[0]), []).append(choice)
    ordered = sorted(values.items(), key=lambda pair: (usual not in pair[1], -len(pair[1])))
    everywhere = sum(map(len, values.values())) == len(files)
    named = {value: () if everywhere and i == 0 else tuple(choices) for i, (value, choices) in enumerate(ordered)}
    return Described(key, named)


def _shown(value: Any) -> str:
    """A value as it is typed in an override."""
    if isinstance(value, Mapping):
        return "its keys"
    if isinstance(value, list):
        return f"[{', '.join(map(_shown, value))}]"
    if isinstance(value, str):
        return REQUIRED if value == "???" else value
    return json.dumps(value)


def all_keys() -> list[Described]:
    """Every key of the verbs and groups, in the order of the page."""
    keys = [key for name in SCHEMAS for key in keys_of_verb(name)]
    keys += [key for group in groups_of() if group not in DELTAS for key in keys_of_group(group)]
    return list({(key.name, key.key.rule.meaning): key for key in keys}.values())


PAGE_HEAD = """# Every key

Written by `deitlt list keys > docs/config.md` from `deitlt.config.schema` and the values of `conf/`: mend those, not
this page. `deitlt list keys student.drw` shows a part of it in the terminal.

A key is typed as `KEY=VALUE`, a choice as `GROUP=NAME`. Where choices of a group have different defaults, the first
is that of all choices that are not named. What an experiment or a method changes is in its own file of at most 30
lines, and `deitlt train experiment=NAME --cfg job` shows the outcome.
"""


def keys_page() -> str:
    """docs/config.md: every group, choice and key, as Markdown."""
    parts = [PAGE_HEAD]
    for name, schema in SCHEMAS.items():
        parts.append(f"## deitlt {name}\n\n{schema.__doc__}\n\n{_key_table(keys_of_verb(name))}")
    for group in [*(g for g in groups_of() if g not in DELTAS), *DELTAS]:
        said = group_comment(group)
        choices = _markdown(("choice", "what it is"), [(f"`{c.override}`", c.what) for c in choices_of(group)])
        keys = [] if group in DELTAS else keys_of_group(group)
        table = f"\n{_key_table(keys)}" if keys else ""
        parts.append(f"## {group}=\n\n{said[0].upper()}{said[1:]}.\n\n{choices}{table}")
    return "\n".join(parts)


def _key_table(keys: Sequence[Described]) -> str:
    rows = [(f"`{one.name}`", one.key.kind, one.shown, one.key.rule.meaning) for one in keys]
    return _markdown(("key", "type", "default", "meaning"), rows)


def _markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


# Topic of `deitlt list` -> (what it lists, the groups that it shows).
TOPICS: dict[str, tuple[str, tuple[str, ...]]] = {
    "experiments": ("recipes: data, networks and epochs in one name", ("experiment",)),
    "methods": ("DeiT-LT, baselines and ablations of any recipe", ("method",)),
    "datasets": ("data sets, and a folder of your own", ("data",)),
    "samplers": ("which images an epoch has, and in which order", ("data/sampler",)),
    "teachers": ("recipes of a teacher, and its network", ("teacher", "teacher/model")),
    "students": (
        "recipes of a student, its network, and what DIST learns",
        ("student", "student/model", "student/distillation"),
    ),
    "models": ("networks; with a pattern such as 'deit*' timm's, too", ("teacher/model", "student/model")),
    "losses": ("what teacher and student learn the targets by", ("teacher/loss", "student/loss")),
    "transforms": ("what teacher and student see of an image", ("teacher/transforms", "student/transforms")),
    "sweeps": ("ready sweeps, for deitlt train -m", ("sweep",)),
}


def choices_of_topic(name: str) -> list[Choice]:
    """The choices of a topic, or of a single group such as teacher/schedule.

    Raises:
        ConfigError: there is neither.
    """
    if name in TOPICS:
        return [choice for group in TOPICS[name][1] for choice in choices_of(group)]
    if name in groups_of():
        return choices_of(name)
    raise ConfigError(f"{name!r} is no topic of deitlt list; {nearest(name, [*TOPICS, 'keys', *groups_of()])}")


# Keys of groups that are typed often; all others are in `deitlt list keys`.
COMMON: dict[str, tuple[str, ...]] = {
    "train": (
        *("data.root", "data.imbalance_factor", "data.val_fraction", "trainer.devices", "trainer.precision"),
        *("teacher.epochs", "teacher.batch_size", "teacher.checkpoint", "student.epochs", "student.batch_size"),
        *("student.optimizer.lr", "student.drw.start_epoch", "student.distillation.alpha"),
    ),
    "inspect": ("data.root", "data.imbalance_factor", "data.max_count"),
    "benchmark": ("trainer.devices", "trainer.precision", "student.batch_size"),
}
_WIDTH = (72, 110)  # columns; narrower and wider terminals wrap, or leave room
_LONGEST = 34  # letters of a key with its default
_MOST = 14  # choices that are named; of more, those that others begin with, and where to see all


def verb_help(verb: str, config_name: str, what: str) -> str:
    """The help page of a verb, for the width of the terminal.

    Args:
        verb: what the user types.
        config_name: its file in conf/.
        what: what it does, in a clause.
    """
    width = min(max(shutil.get_terminal_size().columns, _WIDTH[0]), _WIDTH[1])
    takes_recipes = not issubclass(SCHEMAS[config_name], Recipe)
    groups = (
        groups_of()
        if verb == "train"
        else ["experiment", *(["method", "data", "trainer"] if takes_recipes else ["data"])]
    )
    keys = [_row(key) for key in _help_keys(verb, config_name)]
    note = ""
    if takes_recipes:
        note = "\n  experiment=digits unless another is named; it changes some of these: --cfg job shows all"
    parts = [
        f"deitlt {verb} [KEY=VALUE ...]: {what}",
        _examples(verb, width),
        _columns("Choices (GROUP=NAME)", [(group, _choices(group)) for group in groups], width),
        _columns("Keys (KEY=VALUE), with their defaults", keys, width) + note,
        _more(verb, takes_recipes and verb != "train"),
    ]
    return "\n\n".join(parts)


def _examples(verb: str, width: int) -> str:
    rows = [(f"deitlt {command}", what) for command, what in EXAMPLES[verb]]
    longest = max(len(command) for command, _ in rows)
    if all(longest + len(what) + 4 <= width for _, what in rows):
        lines = [f"  {command:<{longest}}  {what}" for command, what in rows]
    else:
        lines = [line for command, what in rows for line in (f"  {command}", f"      {what}")]
    return "\n".join(["Commands", *lines])


def _choices(group: str) -> str:
    """The names of a group's choices; of many, some and the command that lists all."""
    names = [choice.name for choice in choices_of(group)]
    if len(names) > _MOST:
        alone = [n for n in names if "/" not in n and not any(n.startswith(f"{other}_") for other in names)]
        return f"{', '.join(alone[:_MOST])}, ...: deitlt list {group}s shows all {len(names)}"
    said = group_comment(group) if group not in DELTAS else ""
    return ", ".join(names) + (f"  ({said.partition(';')[0]})" if said else "")


def _help_keys(verb: str, config_name: str) -> list[Described]:
    """The verb's own keys but those within a section, and the commonest of its groups."""
    every = [one for one in keys_of_verb(config_name) if one.name != "paths"]
    own = [one for one in every if "." not in one.name or one.name.startswith("paths.")]
    if verb == "inspect":
        own = [one for one in own if one.name in ("seed", "paths.output_dir")]
    groups = [group for group in groups_of() if group not in DELTAS]
    known = {one.name: one for group in groups for one in keys_of_group(group)} if verb in COMMON else {}
    return own + [known[name] for name in COMMON.get(verb, ())]


def _row(one: Described) -> tuple[str, str]:
    shown = f"{one.name}=" + ("" if one.default == REQUIRED else one.default)
    name = shown if len(shown) <= _LONGEST else one.name
    return (name if one.key.is_leaf else f"{one.name}.*"), one.key.rule.said.partition("; ")[0]


def _columns(heading: str, rows: Sequence[tuple[str, str]], width: int) -> str:
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


def _more(verb: str, takes_train: bool) -> str:
    rows = [("deitlt train --help", "all groups of choices")] if takes_train else []
    rows += [
        ("deitlt list", "what there is to choose from, with a line on each"),
        ("deitlt list keys [PREFIX]", "every key: type, default, meaning"),
        (f"deitlt {verb} ... --cfg job", "the whole configuration, with the overrides beside it"),
        (f"deitlt {verb} --hydra-help", "Hydra's flags: --info, --config-dir, ..."),
    ]
    longest = max(len(command) for command, _ in rows)
    return "\n".join(["More", *(f"  {command:<{longest}}  {what}" for command, what in rows)])
