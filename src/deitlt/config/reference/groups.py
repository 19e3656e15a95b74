"""The groups of choices: folders of conf/, and what each choice says that it is."""

from dataclasses import dataclass
from pathlib import Path

from deitlt.config.compose import config_dir
from deitlt.config.reference.comments import comments, sentence_of, title

# Groups whose files change what others introduce, and introduce no key themselves.
DELTAS = ("experiment", "method", "sweep")
_FOUNDATION = "base"  # what the others of a group begin with; nobody chooses it
_VERB = "train"  # whose configuration names every group


@dataclass(frozen=True)
class Choice:
    """One file of a group: its name as it is typed, and what it says first."""

    group: str
    name: str
    path: Path

    @property
    def override(self) -> str:
        """What to type."""
        return f"{self.group}={self.name}"

    @property
    def what(self) -> str:
        """The first sentence of the file's own comment."""
        return sentence_of(title(self.path.read_text(encoding="utf-8")))


def groups_of(verb_config: str = _VERB) -> list[str]:
    """The groups that a verb's configuration lets one choose from, those within a group behind it.

    A file that begins with train's configuration has train's groups.
    """
    found: list[str] = []
    for name in defaults_of(config_dir() / f"{verb_config}.yaml"):
        if (config_dir() / f"{name}.yaml").is_file():
            found += groups_of(name)
        elif (config_dir() / name).is_dir():
            within = [] if name in DELTAS else _folders(config_dir() / name)
            found += [name, *(f"{name}/{folder.name}" for folder in within)]
    return [name for name in dict.fromkeys(found) if choices_of(name)]


def defaults_of(path: Path) -> list[str]:
    """The names in a file's list of defaults: groups, and files that it begins with."""
    names = []
    lines = iter(path.read_text(encoding="utf-8").splitlines())
    inside = False
    for line in lines:
        inside = line.startswith("defaults:") or (inside and line.startswith("  - "))
        if inside and line.startswith("  - ") and not line.startswith("  - override"):
            names.append(line.removeprefix("  - ").split("#")[0].split(":")[0].strip())
    return names


def choices_of(group: str) -> list[Choice]:
    """The choices of a group, sorted; of a group of changes also those in its folders, as teacher/NAME."""
    folder = config_dir() / group
    paths = sorted(folder.rglob("*.yaml") if group in DELTAS else folder.glob("*.yaml"))
    names = [path.relative_to(folder).with_suffix("").as_posix() for path in paths]
    named = [(name, path) for name, path in zip(names, paths, strict=True) if name != _FOUNDATION]
    return [Choice(group, name, path) for name, path in sorted(named, key=lambda pair: ("/" in pair[0], pair[0]))]


def group_comment(group: str) -> str:
    """What a list of defaults says of a group; empty where it says nothing."""
    parent, _, name = group.rpartition("/")
    sources = sorted((config_dir() / parent).glob("*.yaml")) if parent else [config_dir() / f"{_VERB}.yaml"]
    for path in sources:
        if found := comments(path.read_text(encoding="utf-8")).get(f"defaults.{name}"):
            return found
    return ""


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and any(path.glob("*.yaml")))
