"""docs/config.md: every group, choice and key, written from the configurations."""

from collections.abc import Iterable, Sequence

from deitlt.config.compose import config_dir
from deitlt.config.reference.comments import title
from deitlt.config.reference.groups import DELTAS, choices_of, group_comment, groups_of
from deitlt.config.reference.keys import Key, keys_of_group, keys_of_verb

_HEAD = """# Every key

Written by `deitlt list keys > docs/config.md` from the files and comments of `conf/`: mend those, not this page.
`deitlt list keys student.drw` shows a part of it in the terminal.

A key is typed as `KEY=VALUE`, a choice as `GROUP=NAME`. Where choices of a group have different defaults, each is
named; a choice that is not named has the default of the choice that it begins with. What an experiment or a method
changes is in its own file of at most 30 lines, and `deitlt train experiment=NAME --cfg job` shows the outcome.
"""


def keys_page() -> str:
    """The page, as Markdown."""
    verbs = [(name, keys_of_verb(name)) for name in verb_configs()]
    parts = [_HEAD]
    parts += [_verb_part(name, keys) for name, keys in verbs if keys]
    parts += [_group_part(group) for group in groups_of() if group not in DELTAS]
    parts += [_delta_part(group) for group in groups_of() if group in DELTAS]
    return "\n".join(parts)


def all_keys() -> list[Key]:
    """Every key of the verbs and groups, in the order of the page."""
    keys = [key for name in verb_configs() for key in keys_of_verb(name)]
    keys += [key for group in groups_of() if group not in DELTAS for key in keys_of_group(group)]
    return list({(key.name, key.meaning): key for key in keys}.values())


def verb_configs() -> list[str]:
    """The files that verbs begin with, train's first."""
    return sorted((path.stem for path in config_dir().glob("*.yaml")), key=lambda name: (name != "train", name))


def _verb_part(name: str, keys: Sequence[Key]) -> str:
    said = title((config_dir() / f"{name}.yaml").read_text(encoding="utf-8"))
    return f"## deitlt {name}\n\n{said}\n\n{_key_table(keys)}"


def _group_part(group: str) -> str:
    choices = [(f"`{choice.override}`", choice.what) for choice in choices_of(group)]
    keys = keys_of_group(group)
    table = _key_table(keys) if keys else ""
    return f"## {group}=\n\n{_said(group)}{_table(('choice', 'what it is'), choices)}\n{table}"


def _delta_part(group: str) -> str:
    choices = [(f"`{choice.override}`", choice.what) for choice in choices_of(group)]
    return f"## {group}=\n\n{_said(group)}{_table(('choice', 'what it is'), choices)}"


def _said(group: str) -> str:
    comment = group_comment(group)
    return f"{comment[0].upper()}{comment[1:]}.\n\n" if comment else ""


def _key_table(keys: Sequence[Key]) -> str:
    rows = [(f"`{key.name}`", key.type, _defaults(key), key.meaning) for key in keys]
    return _table(("key", "type", "default", "meaning"), rows)


def _defaults(key: Key) -> str:
    """The default, or each with the choices that have it."""
    return "; ".join(
        _value(value) + (f" in {', '.join(f'`{name}`' for name in names)}" if names else "")
        for value, names in key.defaults.items()
    )


def _value(shown: str) -> str:
    """A value as code; what is said in words stays words."""
    if shown in ("required", "its keys"):
        return shown
    return f"as `{shown.removeprefix('as ')}`" if shown.startswith("as ") else f"`{shown}`"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)
