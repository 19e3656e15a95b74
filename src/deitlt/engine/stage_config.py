"""A run as a list of stages, each of which can be read from one file by a fresh process."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from deitlt.errors import ConfigError, nearest

STAGES = ("teacher", "student", "baseline")
PROTOCOLS = ("last", "val", "paper")
# The nodes that may be null, and what they hold where they are not.
NODES = {"drw": ("start_epoch", "beta", "stop_mixing"), "ema": ("decay", "warmup")}
Plain = dict[str, Any]


@dataclass(frozen=True)
class StageConfig:
    """Everything that one stage needs, as plain values.

    name: of `STAGES`. folder: where its files go. recipe: the node `teacher` or `student`. trainer: with
    accelerator, devices, precision and compile resolved. teacher: the checkpoint that labels the student's
    images, or None. run: the whole run's configuration, for the loggers. group: the run's name, which its stages share.
    """

    name: str
    folder: str
    seed: int
    protocol: str
    watch_test: bool
    evaluate_every: int
    checkpoint_every: int
    data: Plain
    recipe: Plain
    trainer: Plain
    logger: Plain
    teacher: str | None
    run: Plain
    group: str

    @property
    def kind(self) -> str:
        """'teacher' or 'student': a baseline is a student that nobody teaches."""
        return "teacher" if self.name == "teacher" else "student"

    @property
    def distils(self) -> bool:
        """Whether a teacher labels this stage's images."""
        return self.kind == "student" and self.recipe["distillation"]["kind"] != "none"

    @property
    def hosts(self) -> int:
        """How many hosts train it; runs of older versions had one."""
        return int(self.trainer.get("num_nodes", 1))

    @property
    def ranks(self) -> int:
        """Processes that train it, one for each device of each host."""
        return int(self.trainer["devices"]) * self.hosts

    @property
    def watched(self) -> tuple[str, ...]:
        """Splits to evaluate while training, where they exist."""
        return ("val", "test") if self.watch_test or self.protocol == "paper" else ("val",)

    def save(self, path: Path) -> None:
        """Write it for a fresh process."""
        path.parent.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(OmegaConf.create(asdict(self)), path)

    @staticmethod
    def load(path: Path) -> "StageConfig":
        """Read what `save` wrote."""
        content = OmegaConf.to_container(OmegaConf.load(path))
        assert isinstance(content, dict)
        return StageConfig(**{str(key): value for key, value in content.items()})


def stage_recipe(config: DictConfig, name: str) -> Plain:
    """The node that makes the stage: `teacher`, `student`, or `student` as changed by `baseline`."""
    if name == "teacher":
        return plain(config.teacher)
    if name == "student":
        return plain(config.student)
    student = OmegaConf.create(plain(config.student))
    return plain(OmegaConf.merge(student, config.baseline))


def plain(node: Any) -> Plain:
    """A resolved copy of a node, of dicts, lists and values."""
    content = OmegaConf.to_container(node, resolve=True)
    assert isinstance(content, dict)
    return {str(key): value for key, value in content.items()}


def check_run(config: DictConfig) -> None:
    """Check what concerns the run as a whole.

    Raises:
        ConfigError: for an unknown stage or protocol, or a student whose teacher comes from nowhere.
    """
    stages = list(config.stages)
    for name in stages:
        if name not in STAGES:
            raise ConfigError(f"stages has {name!r}, which is no stage; {nearest(name, STAGES)}")
    if not stages or len(set(stages)) != len(stages):
        raise ConfigError(f"stages={stages} must name each stage once; type stages=[teacher,student], say.")
    if config.protocol not in PROTOCOLS:
        raise ConfigError(f"protocol={config.protocol} is no protocol; {nearest(str(config.protocol), PROTOCOLS)}")
    if config.protocol == "val" and not config.data.val_fraction:
        raise ConfigError("protocol=val needs a validation split; type data.val_fraction=0.1, say.")
    if {"teacher", "student"} <= set(stages) and stages.index("teacher") > stages.index("student"):
        raise ConfigError(f"stages={stages} trains the student before its teacher; type stages=[teacher,student].")
    needs_teacher = "student" in stages and config.student.distillation.kind != "none"
    if needs_teacher and "teacher" not in stages and config.teacher.checkpoint is None:
        raise ConfigError(
            "The student has no teacher: type stages=[teacher,student], teacher.checkpoint=FILE, "
            "or student/distillation=none."
        )


def _refuse_half_nodes(name: str, recipe: Mapping[str, Any]) -> None:
    """Raise ConfigError where a recipe's delta meets a node that is null: it then has only some of its keys."""
    for node, keys in NODES.items():
        given = recipe[node]
        if given is not None and (missing := sorted(set(keys) - set(given))):
            raise ConfigError(
                f"{name}.{node} has no {missing[0]}, for the {name} that was chosen has no {node}, which the recipe "
                f"changes; type {name}.{node}=null."
            )


def check_epochs(name: str, recipe: Mapping[str, Any]) -> None:
    """Raise ConfigError where a stage's epochs contradict each other."""
    epochs, drw = recipe["epochs"], recipe["drw"]
    _refuse_half_nodes(name, recipe)
    if epochs < 1:
        raise ConfigError(f"{name}.epochs={epochs} trains nothing; type 1 or more.")
    if drw is not None and not 0 <= drw["start_epoch"] < epochs:
        raise ConfigError(
            f"{name}.drw.start_epoch={drw['start_epoch']} is not among the epochs 0 to {epochs - 1}; "
            f"type {name}.drw.start_epoch={max(0, epochs * 9 // 10)}, or {name}.drw=null for no re-weighting."
        )
