"""What there is to choose from and what each key means: the schema with the values of conf/, for pages and help."""

import json
import shutil
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import takewhile
from pathlib import Path
from typing import Any

import yaml

from deitlt.config import Content, config_dir, merged
from deitlt.config.keys import Key, keys_of, walk
from deitlt.config.schema import Train
from deitlt.config.verbs import EXAMPLES, SCHEMAS, Recipe

# Groups whose files change what others introduce, and introduce no key themselves.
DELTAS = {
    "experiment": "a recipe: what it changes in the rest, by name; ~experiment: nothing",
    "method": "DeiT-LT or one of the baselines, as what it changes in the recipe",
    "sweep": "with -m, a question that a ready sweep answers",
}
REQUIRED, ITS_KEYS = "required", "its keys"
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


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
        title = takewhile(lambda line: line.startswith("#"), self.path.read_text(encoding="utf-8").splitlines())
        lines = [line.lstrip("# ") for line in title if not line.startswith("# @package")]
        return " ".join(lines).partition(". ")[0].rstrip(".") + "."


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


@cache
def _keys(config_name: str = "train") -> tuple[Key, ...]:
    """Every key of a verb, groups included."""
    return tuple(walk(SCHEMAS[config_name]))


@cache
def groups_of(config_name: str = "train") -> list[str]:
    """The groups of choices that a verb's configuration has, those within a group behind it."""
    names = [key.name.replace(".", "/") for key in _keys(config_name) if key.nodes]
    deltas = [name for name in DELTAS if name != "sweep" or issubclass(SCHEMAS[config_name], Train)]
    return [name for name in dict.fromkeys([*names, *deltas]) if choices_of(name)]


def choices_of(group: str, others: Iterable[Path] = ()) -> list[Choice]:
    """The choices of a group, sorted; of a group of changes also those in its folders, as teacher/NAME.

    Args:
        group: such as 'student/loss'.
        others: folders like conf/ whose choices are named, too; ours go before them.
    """
    named: dict[str, Path] = {}
    for folder in (config_dir() / group, *(other / group for other in others)):
        paths = folder.rglob("*.yaml") if group in DELTAS else folder.glob("*.yaml")
        found = {path.relative_to(folder).with_suffix("").as_posix(): path for path in paths if path.stem != "base"}
        named = found | named
    return [Choice(group, name, named[name]) for name in sorted(named, key=lambda name: ("/" in name, name))]


def group_comment(group: str) -> str:
    """What a group chooses."""
    return DELTAS.get(group) or next(key.meaning for key in _keys() if key.name == group.replace("/", "."))


@cache
def _load(path: Path) -> Content:
    content: Content = yaml.load(path.read_text(encoding="utf-8"), _LOADER) or {}
    return content


@cache
def _content(path: Path) -> Content:
    """A file's keys, with those of the files of its own folder that it begins with; nothing is resolved."""
    names = [name for name in _load(path).get("defaults", []) if isinstance(name, str)]
    beside = [other for name in names if (other := path.with_name(f"{name}.yaml")).is_file()]
    content: Content = {}
    for one in (*map(_content, beside), _load(path)):
        content = merged(content, one)
    return {name: value for name, value in content.items() if name != "defaults"}


def usual_choice(group: str) -> str:
    """The choice of a group where none is typed; empty where several files name one."""
    parent, _, name = group.rpartition("/")
    file = f"{parent}/{usual_choice(parent)}.yaml" if parent else "train.yaml"
    entries = _load(config_dir() / file).get("defaults", [])
    return next((str(entry[name]) for entry in entries if isinstance(entry, Mapping) and name in entry), "")


def choice_with(key: str) -> str:
    """The choice whose file has a key that others of its group lack; empty where there is none.

    One that leaves its value to who types it goes before others.
    """
    for group in reversed(groups_of()):
        prefix = f"{group.replace('/', '.')}."
        if key.startswith(prefix) and group not in DELTAS:
            values = {c.override: _values(_content(c.path), key.removeprefix(prefix)) for c in choices_of(group)}
            if having := sorted((found for found in values if values[found]), key=lambda c: "???" not in values[c]):
                return having[0]
    return ""


def _values(content: Any, key: str) -> list[Any]:
    """A key's value as a file has it; none where the file has no such key."""
    for word in key.split("."):
        if not isinstance(content, Mapping) or word not in content:
            return []
        content = content[word]
    return [content]


def keys_of_verb(config_name: str) -> list[Described]:
    """The keys that a verb has beside the groups of choices."""
    own = SCHEMAS[config_name]
    elsewhere = {group.partition("/")[0] for group in groups_of(config_name)} - set(DELTAS)
    if own is not Train and issubclass(own, Train):
        elsewhere |= set(keys_of(Train))
    files = {"": _content(config_dir() / f"{config_name}.yaml")}
    keys = [
        _described(key, key.name, files) for key in _keys(config_name) if key.name.partition(".")[0] not in elsewhere
    ]
    return [one for one in keys if one.defaults or not one.name.startswith("baseline.")]


def keys_of_group(group: str) -> list[Described]:
    """The keys of all choices of a group, each once, without those of the groups within it."""
    prefix = f"{group.replace('/', '.')}."
    inner = tuple(f"{other.replace('/', '.')}." for other in groups_of() if other.startswith(f"{group}/"))
    files = {choice.name: _content(choice.path) for choice in choices_of(group)}
    usual, own = usual_choice(group), dict[str, Key]()
    for key in _keys():
        if key.name.startswith(prefix) and not f"{key.name}.".startswith(inner):
            own.setdefault(key.name, key)
    keys = [_described(key, name.removeprefix(prefix), files, usual) for name, key in own.items()]
    return [one for one in keys if one.defaults or not group.endswith("transforms")]


def _described(key: Key, name: str, files: Mapping[str, Content], usual: str = "") -> Described:
    """A key with the values of files that stand for each other: the usual choice's first, then the commonest."""
    values: dict[str, list[str]] = {}
    for choice, content in files.items():
        for value in _values(content, name):
            values.setdefault(_shown(value), []).append(choice)
    ordered = sorted(values.items(), key=lambda pair: (usual not in pair[1], -len(pair[1])))
    everywhere = sum(map(len, values.values())) == len(files)
    return Described(
        key, {value: () if everywhere and i == 0 else (*names,) for i, (value, names) in enumerate(ordered)}
    )


def _shown(value: Any) -> str:
    """A value as it is typed in an override."""
    if isinstance(value, Mapping):
        return ITS_KEYS
    if isinstance(value, list):
        return f"[{', '.join(map(_shown, value))}]"
    if isinstance(value, str):
        return REQUIRED if value == "???" else value
    return json.dumps(value)


def all_keys() -> list[Described]:
    """Every key of the verbs and groups, in the order of the page."""
    keys = [key for name in SCHEMAS for key in keys_of_verb(name)]
    keys += [key for group in groups_of() if group not in DELTAS for key in keys_of_group(group)]
    return list({(one.name, one.key.meaning): one for one in keys}.values())


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
    def shown(one: Described) -> str:
        values = [
            (value if value in (REQUIRED, ITS_KEYS) else f"`{value}`")
            + (f" in {', '.join(f'`{name}`' for name in names)}" if names else "")
            for value, names in one.defaults.items()
        ]
        return "; ".join(values)

    rows = [(f"`{one.name}`", one.key.kind, shown(one), one.key.meaning) for one in keys]
    return _markdown(("key", "type", "default", "meaning"), rows)


def _markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


# Keys of groups that are typed often with a verb; all others are in `deitlt list keys`.
COMMON: dict[str, tuple[str, ...]] = {
    "train": (
        *("data.root", "data.imbalance_factor", "data.val_fraction", "trainer.devices", "trainer.precision"),
        *("teacher.epochs", "teacher.batch_size", "teacher.checkpoint", "student.epochs", "student.batch_size"),
        *("student.optimizer.lr", "student.drw.start_epoch", "student.distillation.alpha"),
    ),
    "inspect": ("seed", "paths.output_dir", "data.root", "data.imbalance_factor", "data.max_count"),
    "benchmark": ("trainer.devices", "trainer.precision", "student.batch_size"),
}
_WIDTH = (72, 110)  # columns; narrower and wider terminals wrap, or leave room
_LONGEST = 30  # letters of a name before what is said of it
_MOST = 14  # choices that are named; of more, those that others begin with, and where to see all
MORE = (
    ("deitlt list", "what there is to choose from, with a line on each"),
    ("deitlt list keys [PREFIX]", "every key: type, default, meaning"),
    ("deitlt {verb} ... --cfg job", "the whole configuration, with the overrides beside it"),
    ("deitlt {verb} --hydra-help", "Hydra's flags: --info, --config-dir, ..."),
)


def verb_help(verb: str, config_name: str, what: str) -> str:
    """The help page of a verb, for the width of the terminal.

    Args:
        verb: what the user types.
        config_name: its file in conf/.
        what: what it does, in a clause.
    """
    width = min(max(shutil.get_terminal_size().columns, _WIDTH[0]), _WIDTH[1])
    takes_recipes, is_train = not issubclass(SCHEMAS[config_name], Recipe), verb == "train"
    few = ["experiment", "method", "data", "trainer"] if takes_recipes else ["experiment", "data"]
    examples = [line for command, said in EXAMPLES[verb] for line in (f"  deitlt {command}", f"      {said}")]
    note = ["  experiment=digits unless another is named; it changes some of these: --cfg job shows all"]
    more = [("deitlt train --help", "all groups of choices")] if takes_recipes and not is_train else []
    more += [(command.format(verb=verb), said) for command, said in MORE]
    return "\n".join(
        [
            *(f"deitlt {verb} [KEY=VALUE ...]: {what}", "", "Commands", *examples, "", "Choices (GROUP=NAME)"),
            *_columns([(group, _choices(group)) for group in (groups_of() if is_train else few)], width),
            *("", "Keys (KEY=VALUE), with their defaults"),
            *_columns([_row(one) for one in _help_keys(verb, config_name)], width),
            *(*(note if takes_recipes else []), "", "More", *_columns(more, width)),
        ]
    )


def _choices(group: str) -> str:
    """The names of a group's choices; of many, some and the command that lists all."""
    names = [choice.name for choice in choices_of(group)]
    if len(names) > _MOST:
        alone = [n for n in names if "/" not in n and not any(n.startswith(f"{other}_") for other in names)]
        return f"{', '.join(alone[:_MOST])}, ...: deitlt list {group}s shows all {len(names)}"
    return ", ".join(names) + (f"  ({group_comment(group).partition(';')[0]})" if group not in DELTAS else "")


def _help_keys(verb: str, config_name: str) -> list[Described]:
    """The verb's own keys but those within a section, and the commonest of its groups."""
    own = keys_of_verb(config_name) if verb == config_name else []
    own = [one for one in own if ("." not in one.name or one.name.startswith("paths.")) and one.name != "paths"]
    known = {one.name: one for one in all_keys()} if verb in COMMON else {}
    return own + [known[name] for name in COMMON.get(verb, ())]


def _row(one: Described) -> tuple[str, str]:
    shown = f"{one.name}=" + ("" if one.default == REQUIRED else one.default)
    name = shown if len(shown) <= _LONGEST else one.name
    return f"{one.name}.*" if one.key.nodes else name, f"{one.key.unit} {one.key.meaning}".strip().partition("; ")[0]


def _columns(rows: Sequence[tuple[str, str]], width: int) -> list[str]:
    """Two columns, the second wrapped."""
    column = min(max(len(name) for name, _ in rows), _LONGEST) + 4
    begins = [f"  {name}  ".ljust(column) for name, _ in rows]
    texts = [text for _, text in rows]
    return [
        textwrap.fill(text, width, initial_indent=begin, subsequent_indent=" " * column, break_on_hyphens=False)
        for begin, text in zip(begins, texts, strict=True)
    ]
