"""What there is to choose from, by topic: `deitlt list TOPIC`."""

import re
from dataclasses import dataclass

from deitlt.config.compose import config_dir
from deitlt.config.reference.comments import comments
from deitlt.config.reference.groups import choices_of, groups_of
from deitlt.errors import ConfigError, nearest

PARTS = "parts"
_STUDENT = ("student", "student/model", "student/distillation")


@dataclass(frozen=True)
class Entry:
    """One thing to choose: what to type for it, and what it is."""

    override: str
    what: str

    @property
    def name(self) -> str:
        """What stands behind the equals sign."""
        return self.override.partition("=")[2]


@dataclass(frozen=True)
class Topic:
    """Groups of choices that belong together, and the command that takes them."""

    name: str
    what: str
    groups: tuple[str, ...]
    verb: str = "train"

    @property
    def entries(self) -> list[Entry]:
        """All of them, group by group."""
        if self.name == PARTS:
            return _parts()
        return [Entry(choice.override, choice.what) for group in self.groups for choice in choices_of(group)]


TOPICS = {
    topic.name: topic
    for topic in (
        Topic("experiments", "recipes: data, networks and epochs in one name", ("experiment",)),
        Topic("methods", "DeiT-LT, baselines and ablations of any recipe", ("method",)),
        Topic("datasets", "data sets, and a folder of your own", ("data",)),
        Topic("samplers", "which images an epoch has, and in which order", ("data/sampler",)),
        Topic("teachers", "recipes of a teacher, and its network", ("teacher", "teacher/model")),
        Topic("students", "recipes of a student, its network, and what DIST learns", _STUDENT),
        Topic("models", "networks; with a pattern such as 'deit*' timm's, too", ("teacher/model", "student/model")),
        Topic("losses", "what teacher and student learn the truth by", ("teacher/loss", "student/loss")),
        Topic("transforms", "what teacher and student see of an image", ("teacher/transforms", "student/transforms")),
        Topic("sweeps", "ready sweeps, for deitlt train -m", ("sweep",), "train -m"),
        Topic(PARTS, "what deitlt benchmark measures", (), "benchmark"),
    )
}


def topic_of(name: str) -> Topic:
    """The topic of that name, or a single group such as teacher/schedule.

    Raises:
        ConfigError: there is neither.
    """
    if name in TOPICS:
        return TOPICS[name]
    groups = groups_of()
    if name in groups:
        return Topic(name, "", (name,))
    raise ConfigError(f"{name!r} is no topic of deitlt list; {nearest(name, [*TOPICS, 'keys', *groups])}")


def _parts() -> list[Entry]:
    """The benchmark's parts from the comment of their key, 'name (what it is), name, ...'."""
    said = comments((config_dir() / "benchmark.yaml").read_text(encoding="utf-8"))["part"].partition(": ")[2]
    return [Entry(f"part={name}", what) for name, what in re.findall(r"(\w+)(?: \(([^)]*)\))?(?:, |$)", said)]
