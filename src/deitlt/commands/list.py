"""`deitlt list [TOPIC]`: what there is to choose from, a line on each, and what to type for it."""

import argparse
import fnmatch
import json
import sys
from collections.abc import Mapping, Sequence
from typing import NoReturn

from rich.console import Console
from rich.table import Table

from deitlt.config.reference import TOPICS, Described, all_keys, choices_of_topic, keys_page
from deitlt.errors import ConfigError

_KEYS = "keys"
_FEW = 4  # names that stand for a topic in the overview


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One sentence, as everywhere, in place of the usage and SystemExit."""
        raise ConfigError(f"{message}; type deitlt list [{' | '.join([*TOPICS, _KEYS])}].")


def main(arguments: list[str]) -> int:
    """Print the overview, a topic, or the configuration's keys."""
    options = _parser().parse_args(arguments)
    if options.topic == _KEYS:
        return _list_keys(options)
    if options.topic is None:
        names = {topic: [choice.name for choice in choices_of_topic(topic)] for topic in TOPICS}
        return _show(options, _overview_table(names), names)
    choices = choices_of_topic(options.topic)
    described = {choice.override: choice.what for choice in choices if _matches(choice.name, options.pattern)}
    if options.topic == "models" and options.pattern:
        described |= _timms(options.pattern)
    if not described:
        raise ConfigError(f"No name of {options.topic} matches {options.pattern!r}; type deitlt list {options.topic}.")
    return _show(options, _topic_table(options.topic, described), described)


def _list_keys(options: argparse.Namespace) -> int:
    """The whole reference page as Markdown, or the keys that begin with what was asked for."""
    if options.pattern is None and not options.json:
        sys.stdout.write(keys_page())
        return 0
    chosen = [key for key in all_keys() if _begins(key.name, options.pattern or "")]
    if not chosen:
        raise ConfigError(f"No key begins with {options.pattern!r}; deitlt list keys shows all.")
    described = {
        one.name: {"type": one.key.kind, "default": one.default, "meaning": one.key.rule.meaning} for one in chosen
    }
    return _show(options, _keys_table(chosen), described)


def _begins(name: str, prefix: str) -> bool:
    """Whether a key is the one that was typed or lies below it; a prefix that ends in a letter may be cut short."""
    return name.startswith(prefix.replace("/", "."))


def _matches(name: str, pattern: str | None) -> bool:
    """Whether a name matches a shell pattern, or holds the words that were typed in place of one."""
    if pattern is None:
        return True
    return fnmatch.fnmatchcase(name, pattern if any(c in pattern for c in "*?[") else f"*{pattern}*")


def _timms(pattern: str) -> dict[str, str]:
    """timm's networks by name; what can be loaded without a GPU or a download, for nothing is built here."""
    import timm  # brings torch along, so only where it is asked for

    transformers = set(timm.list_models(("vit_*", "deit*")))
    names = [name for name in timm.list_models() if _matches(name, pattern)]
    return {f"{'student' if name in transformers else 'teacher'}.model.name={name}": "timm's" for name in names}


def _overview_table(listed: Mapping[str, Sequence[str]]) -> Table:
    table = _table("What there is to choose from", ("type", "what it lists", "some of them"))
    for topic, names in listed.items():
        shown = ", ".join(names[:_FEW]) + (f", ... ({len(names)})" if len(names) > _FEW else "")
        table.add_row(f"deitlt list {topic}", TOPICS[topic][0], shown)
    table.add_row(
        f"deitlt list {_KEYS} [PREFIX]", "every key: type, default, meaning; no PREFIX: Markdown", "student.drw"
    )
    return table


def _topic_table(topic: str, described: Mapping[str, str]) -> Table:
    table = _table(f"{topic}: deitlt train {'-m ' * (topic == 'sweeps')}...", ("type", "what it is"))
    for override, what in described.items():
        table.add_row(override, what)
    return table


def _keys_table(keys: Sequence[Described]) -> Table:
    table = _table("keys", ("key", "type", "default", "meaning"))
    for one in keys:
        table.add_row(one.name, one.key.kind, one.default, one.key.rule.meaning)
    return table


def _table(title: str, columns: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left", show_lines=False)
    table.add_column(columns[0], overflow="fold", no_wrap=len(columns) < 4)
    for name in columns[1:]:
        table.add_column(name, overflow="fold")
    return table


def _show(options: argparse.Namespace, table: Table, content: object) -> int:
    if options.json:
        sys.stdout.write(json.dumps(content, indent=1) + "\n")
    else:
        Console(markup=False, highlight=False).print(table)
    return 0


def _parser() -> _Parser:
    parser = _Parser(prog="deitlt list", description="What there is to choose from, and what to type for it.")
    parser.add_argument(
        "topic",
        nargs="?",
        help=f"{', '.join(TOPICS)}, {_KEYS}, or a group of choices such as teacher/schedule; none: all in short",
    )
    parser.add_argument("pattern", nargs="?", help="a part of a name or a shell pattern; of keys, how they begin")
    parser.add_argument("--json", action="store_true", help="JSON in place of a table")
    return parser
