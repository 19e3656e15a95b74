"""The keys of the configurations: type, default, meaning, read from the files and their comments."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from deitlt.config.checks import CHOICES
from deitlt.config.compose import config_dir
from deitlt.config.reference.comments import comments
from deitlt.config.reference.groups import DELTAS, defaults_of

Plain = dict[str, Any]
REQUIRED = "???"
# What says which object is made is no setting, and Hydra's own keys are Hydra's.
_SILENT = ("_target_", "_partial_", "defaults", "hydra")
_TYPES = {bool: "true or false", int: "whole number", float: "number", str: "text", list: "list", dict: "keys"}
# Last words of keys whose files say null alone, or a round number for any: what they are where they are not.
_KINDS = {
    **dict.fromkeys(("devices", "width", "depth", "heads", "max_count", "generated", "trial", "after_trials"), int),
    **dict.fromkeys(("imbalance_factor", "gradient_clip", "threshold"), float),
    **dict.fromkeys(("drw", "ema", "mixing", "wandb"), dict),
    **dict.fromkeys(("group_cuts", "jobs", "parts"), list),
    "strings": bool,
}
_STAGES = re.compile(r"^(teacher|student|baseline)(?=\.)")
_RELATIVE = re.compile(r"\$\{(\.+)([\w.]+)\}")


@dataclass(frozen=True)
class Key:
    """A key as it is typed, with what each file that has it says of it.

    defaults: the value as YAML, -> the choices that have it (none where all have it).
    """

    name: str
    type: str
    defaults: dict[str, tuple[str, ...]]
    meaning: str

    @property
    def default(self) -> str:
        """The first default: that of the file that introduces the key."""
        return next(iter(self.defaults))


def keys_of_verb(config_name: str) -> list[Key]:
    """The keys of a verb's own file, without those of the groups."""
    return _merged([config_dir() / f"{config_name}.yaml"], "")


def keys_of_group(group: str) -> list[Key]:
    """The keys of all choices of a group, each once."""
    paths = sorted((config_dir() / group).glob("*.yaml"), key=lambda path: (_depth(path), path.name))
    return _merged(paths, f"{group.replace('/', '.')}.")


def _depth(path: Path) -> int:
    """How many files a file begins with: what introduces keys comes before what changes them."""
    return len(_ancestors(path))


def _ancestors(path: Path) -> list[Path]:
    """The files of the same folder that a file begins with, the nearest first."""
    beside = [path.parent / f"{name}.yaml" for name in defaults_of(path)]
    nearest = [other for other in beside if other.is_file() and other != path]
    return [ancestor for other in nearest for ancestor in (other, *_ancestors(other))]


def _merged(paths: list[Path], prefix: str) -> list[Key]:
    """The keys of files that stand for each other, each key once, as the first file that has it puts them."""
    values: dict[str, list[tuple[Path, Any]]] = {}
    for path in paths:
        for name, value in _leaves(_content(path), ""):
            values.setdefault(name, []).append((path, value))
    own = _own_comments(paths)
    keys = [_key(f"{prefix}{name}", found, paths, own.get(name, "")) for name, found in values.items()]
    return [key for key in keys if not _is_mere_node(key)]


def _key(name: str, found: list[tuple[Path, Any]], paths: list[Path], comment: str) -> Key:
    stems: dict[str, tuple[str, ...]] = {}
    for path, value in found:
        shown = _shown(name, value)
        stems[shown] = (*stems.get(shown, ()), path.stem)
    defaults = {shown: _named(of_value, paths) for shown, of_value in stems.items()}
    meaning = comment or _meaning(name)
    return Key(name, _type(name, [value for _, value in found], meaning), defaults, meaning)


def _own_comments(paths: list[Path]) -> dict[str, str]:
    """The comments of the files; of the first that has one."""
    found: dict[str, str] = {}
    for path in paths:
        found = comments(path.read_text(encoding="utf-8")) | found
    return found


def _is_mere_node(key: Key) -> bool:
    """Whether it only holds others, and nothing is said of it."""
    return key.type == _TYPES[dict] and not key.meaning


def _named(stems: tuple[str, ...], paths: list[Path]) -> tuple[str, ...]:
    """The choices to name beside a default: none where every file has it, or begins with the file that has."""
    begins_all = {path.stem for path in paths if all(path in _ancestors(o) for o in paths if o != path)}
    return () if len(stems) == len(paths) or begins_all & set(stems) else stems


def _content(path: Path) -> Plain:
    content = OmegaConf.to_container(OmegaConf.create(path.read_text(encoding="utf-8")), resolve=False)
    assert isinstance(content, dict)
    return {str(name): value for name, value in content.items()}


def _leaves(node: Mapping[Any, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    """Every key with its value; a node that has a comment of its own or is empty stands before its keys."""
    for name, value in node.items():
        if name in _SILENT:
            continue
        if isinstance(value, Mapping):
            yield f"{prefix}{name}", value
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _shown(key: str, value: Any) -> str:
    """A default as YAML on one line; an interpolation names the key that it follows, by its whole name."""
    if isinstance(value, Mapping):
        return "its keys"
    if value == REQUIRED:
        return "required"
    if isinstance(value, str) and (match := _RELATIVE.fullmatch(value)):
        above = key.split(".")[: -len(match[1])]
        return f"as {'.'.join([*above, match[2]])}"
    return _typed(value)


def _typed(value: Any) -> str:
    """A value as it is typed in an override."""
    if isinstance(value, list):
        return f"[{', '.join(map(_typed, value))}]"
    return value if isinstance(value, str) else json.dumps(value)


def _type(key: str, values: Sequence[Any], meaning: str) -> str:
    """The choices where there are some, else the type of the values, and whether it may be null."""
    last = key.rpartition(".")[2]
    known = [value for value in values if value is not None and value != REQUIRED]
    kinds = {type(value) for value in known if not (isinstance(value, str) and "${" in value)}
    kinds = kinds or {_KINDS.get(last, str)}
    if float in kinds or _KINDS.get(last) is float:
        kinds = (kinds | {float}) - {int}
    nullable = " or null" if None in values or "null:" in meaning else ""
    if key in CHOICES:
        return ("list of " if list in kinds else "") + " | ".join(CHOICES[key]) + nullable
    return " or ".join(name for kind, name in _TYPES.items() if kind in kinds) + nullable


def _meaning(key: str) -> str:
    """What is said of the same key elsewhere: in another stage, or of the student where `baseline` changes it."""
    known = _all_comments()
    return known.get(key) or known.get(_STAGES.sub("*", key)) or known.get(f"*.{key}", "")


@cache
def _all_comments() -> dict[str, str]:
    """Every comment by its key, and by its key without the stage's name ('*.epochs')."""
    found: dict[str, str] = {}
    for path in sorted(config_dir().rglob("*.yaml"), key=lambda path: (len(_ancestors(path)), path)):
        group = path.parent.relative_to(config_dir()).as_posix()
        if group.split("/")[0] in DELTAS:
            continue
        prefix = "" if group == "." else f"{group.replace('/', '.')}."
        for name, comment in comments(path.read_text(encoding="utf-8")).items():
            for key in (f"{prefix}{name}", _STAGES.sub("*", f"{prefix}{name}")):
                found.setdefault(key, comment)
    return found
