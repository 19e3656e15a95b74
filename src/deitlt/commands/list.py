"""`deitlt list [TOPIC]`: what there is to choose from, a line on each, and what to type for it."""

import argparse
import fnmatch
import json
import sys
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table

from deitlt.commands import Parser
from deitlt.config.reference import Choice, all_keys, choices_of, groups_of, keys_page
from deitlt.config.trust import plugin_folders
from deitlt.errors import ConfigError, nearest

_FEW = 4  # names that stand for a topic in the overview
# Topic -> (what it lists, the groups that it shows).
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


def main(arguments: list[str]) -> int:
    """Print the overview, a topic, or the configuration's keys."""
    parser = Parser(
        f"type deitlt list [{' | '.join([*TOPICS, 'keys'])}].",
        prog="deitlt list",
        description="What there is to choose from, and what to type for it.",
    )
    topics = f"{', '.join(TOPICS)}, keys, or a group of choices such as teacher/schedule; none: all in short"
    parser.add_argument("topic", nargs="?", help=topics)
    parser.add_argument("pattern", nargs="?", help="a part of a name or a shell pattern; of keys, how they begin")
    parser.add_argument("--json", action="store_true", help="JSON in place of a table")
    options = parser.parse_args(arguments)
    if options.topic == "keys":
        return _list_keys(options)
    if options.topic is None:
        return _show(options, *_overview())
    choices = choices_of_topic(options.topic)
    described = {words_of(choice): choice.what for choice in choices if _matches(choice.name, options.pattern)}
    if options.topic == "models" and options.pattern:
        described |= _timms(options.pattern)
    if not described:
        raise ConfigError(f"No name of {options.topic} matches {options.pattern!r}; type deitlt list {options.topic}.")
    title = f"{options.topic}: deitlt train {'-m ' * (options.topic == 'sweeps')}..."
    return _show(options, _table(title, ("type", "what it is"), described.items()), described)


def words_of(choice: Choice) -> str:
    """What to type for a choice: itself, and beside PaCo's networks the teacher that has its loss and transforms."""
    is_pacos = choice.override.startswith("teacher/model=paco_")
    return choice.override + (" teacher=cifar_paco teacher.drw=null" if is_pacos else "")


def choices_of_topic(name: str) -> list[Choice]:
    """The choices of a topic, or of a single group such as teacher/schedule.

    Raises:
        ConfigError: there is neither.
    """
    if name in TOPICS:
        return [choice for group in TOPICS[name][1] for choice in choices_of(group, plugin_folders())]
    if name in groups_of():
        return choices_of(name, plugin_folders())
    raise ConfigError(f"{name!r} is no topic of deitlt list; {nearest(name, [*TOPICS, 'keys', *groups_of()])}")


def _list_keys(options: argparse.Namespace) -> int:
    """The whole reference page as Markdown, or the keys that begin with what was asked for."""
    if options.pattern is None and not options.json:
        sys.stdout.write(keys_page())
        return 0
    prefix = (options.pattern or "").replace("/", ".")
    chosen = [one for one in all_keys() if one.name.startswith(prefix)]
    if not chosen:
        raise ConfigError(f"No key begins with {options.pattern!r}; deitlt list keys shows all.")
    columns = ("type", "default", "meaning")
    rows = [(one.name, one.key.kind, one.default, one.key.meaning) for one in chosen]
    described = {name: dict(zip(columns, said, strict=True)) for name, *said in rows}
    return _show(options, _table("keys", ("key", *columns), rows), described)


def _matches(name: str, pattern: str | None) -> bool:
    """Whether a name matches a shell pattern, or holds the words that were typed in place of one."""
    if pattern is None:
        return True
    return fnmatch.fnmatchcase(name, pattern if any(c in pattern for c in "*?[") else f"*{pattern}*")


def _timms(pattern: str) -> dict[str, str]:
    """timm's networks by what is to be typed for them; nothing is built or fetched for it."""
    import timm  # brings torch along, so only where it is asked for

    from deitlt.models import words_for

    matching = (words_for(name) for name in timm.list_models() if _matches(name, pattern))
    return {words: "timm's" for words in matching if words is not None}


def _overview() -> tuple[Table, dict[str, list[str]]]:
    names = {topic: [choice.name for choice in choices_of_topic(topic)] for topic in TOPICS}
    rows = []
    for topic, listed in names.items():
        shown = ", ".join(listed[:_FEW]) + (f", ... ({len(listed)})" if len(listed) > _FEW else "")
        rows.append((f"deitlt list {topic}", TOPICS[topic][0], shown))
    rows.append(("deitlt list keys [PREFIX]", "every key: type, default, meaning; no PREFIX: Markdown", "student.drw"))
    return _table("What there is to choose from", ("type", "what it lists", "some of them"), rows), names


def _table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    table = Table(title=title, title_justify="left", show_lines=False)
    for i, name in enumerate(columns):
        table.add_column(name, overflow="fold", no_wrap=i == 0 and len(columns) < 4)
    for row in rows:
        table.add_row(*row)
    return table


def _show(options: argparse.Namespace, table: Table, content: object) -> int:
    if options.json:
        sys.stdout.write(json.dumps(content, indent=1) + "\n")
    else:
        Console(markup=False, highlight=False).print(table)
    return 0
