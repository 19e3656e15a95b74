"""A run as a list of stages, each a node of the configuration: what one stage needs, as plain values."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from deitlt.checkpoints import find_checkpoint
from deitlt.engine.devices import choose_compile, choose_precision, count_devices
from deitlt.engine.launch import find_environment, local_ranks
from deitlt.engine.run_folder import RunFolder
from deitlt.errors import ConfigError, nearest

STAGES = ("teacher", "student", "baseline")  # that conf/train.yaml has; a configuration may have others
STAGE_FILE = "stage.yaml"  # in a stage's folder: its configuration, with nothing of it 'auto' any more
EXTENDS = "extends"  # in a node: the one that it changes
PROTOCOLS = ("last", "val", "paper")
# The nodes that may be null, and what they hold where they are not.
NODES = {"drw": ("start_epoch", "beta", "stop_mixing"), "ema": ("decay", "warmup")}
Plain = dict[str, Any]


@dataclass(frozen=True)
class StageConfig:
    """Everything that one stage needs, as plain values.

    name: its node in the configuration. folder: where its files go. recipe: the node, with what it extends. trainer:
    with accelerator, devices (ranks on this host), num_nodes, precision and compile resolved. teacher: the checkpoint
    that labels a student's images, or None. run: the whole run's configuration, for the loggers. group: the run's
    name, which its stages share.
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
        """'student' where its node says what is distilled, and be it nothing; else 'teacher'."""
        return "student" if "distillation" in self.recipe else "teacher"

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
        """Write it, for an analysis and for a run that goes on."""
        path.parent.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(OmegaConf.create(asdict(self)), path)

    @staticmethod
    def load(path: Path) -> "StageConfig":
        """Read what `save` wrote."""
        content = OmegaConf.to_container(OmegaConf.load(path))
        assert isinstance(content, dict)
        return StageConfig(**{str(key): value for key, value in content.items()})


def plain(node: Any) -> Plain:
    """A resolved copy of a node, of dicts, lists and values."""
    content = OmegaConf.to_container(node, resolve=True)
    assert isinstance(content, dict)
    return {str(key): value for key, value in content.items()}


def stage_names(config: DictConfig) -> list[str]:
    """The configuration's nodes that are stages: those that name epochs and a module, or the stage that they extend."""
    nodes = {str(name): OmegaConf.select(config, str(name)) for name in config}
    mappings = {name: node for name, node in nodes.items() if isinstance(node, DictConfig)}
    return [name for name, node in mappings.items() if EXTENDS in node or {"epochs", "module"} <= set(node)]


def stage_recipe(config: DictConfig, name: str) -> Plain:
    """The stage's node; one that extends another is merged onto that."""
    node = config[name]
    # Runs of older versions do not say what their baseline extends.
    base = node.get(EXTENDS, "student" if name == "baseline" else None)
    if base is None:
        return plain(node)
    changes = {key: value for key, value in plain(node).items() if key != EXTENDS}
    return plain(OmegaConf.merge(OmegaConf.create(stage_recipe(config, base)), changes))


def node_of(config: DictConfig, name: str) -> str:
    """The node whose keys a user changes: 'student' for the baseline."""
    return str(config[name].get(EXTENDS, "student" if name == "baseline" else name))


def make_stage(config: DictConfig, run: RunFolder, name: str) -> StageConfig:
    """The configuration of one stage, its devices and all that follows from them resolved."""
    recipe = stage_recipe(config, name)
    check_epochs(node_of(config, name), recipe)
    trainer = plain(config.trainer)
    trainer |= _devices(trainer)
    trainer["precision"] = choose_precision(trainer["precision"], trainer["accelerator"])
    trainer["compile"] = choose_compile(trainer.get("compile", False), trainer["accelerator"])  # older runs have none
    return StageConfig(
        name=name,
        folder=str(run.stage(name)),
        seed=config.seed,
        protocol=config.protocol,
        watch_test=config.watch_test,
        evaluate_every=config.evaluate_every,
        checkpoint_every=config.checkpoint_every,
        data=plain(config.data),
        recipe=recipe,
        trainer=trainer,
        logger=plain(config.logger),
        teacher=None,
        run=plain(config),
        group=run.group,
    )


def _devices(trainer: Mapping[str, Any]) -> Plain:
    """What trains: the ranks that there are, whoever started them; else as many as are asked for, on one host.

    Raises:
        ConfigError: there are fewer devices.
    """
    environment = find_environment()
    ranks = environment.world_size()
    if ranks == 1:
        accelerator, devices = count_devices(trainer["accelerator"], trainer["devices"])
        return {"accelerator": accelerator, "devices": devices, "num_nodes": 1}
    here = local_ranks(environment)
    accelerator, devices = count_devices(trainer["accelerator"], here, devices_key="--nproc-per-node")
    return {"accelerator": accelerator, "devices": devices, "num_nodes": ranks // here}


def given_checkpoint(config: DictConfig, name: str) -> str | None:
    """What stands for a stage, if it was given; one that extends another is always trained."""
    given: str | None = None if name not in config or node_of(config, name) != name else config[name].checkpoint
    return given


def with_teacher(stage: StageConfig, config: DictConfig, run: RunFolder) -> StageConfig:
    """The stage with the checkpoint that labels its images, given or trained before."""
    if not stage.distils:
        return stage
    given = given_checkpoint(config, "teacher")
    path = find_checkpoint(given, ("teacher",)) if given else find_checkpoint(run.path, ("teacher",))
    return replace(stage, teacher=str(path.absolute()))


def check_run(config: DictConfig) -> None:
    """Check what concerns the run as a whole.

    Raises:
        ConfigError: for an unknown stage or protocol, or a student whose teacher comes from nowhere.
    """
    stages, known = list(config.stages), stage_names(config)
    for name in stages:
        if name not in known:
            raise ConfigError(f"stages has {name!r}, which is no stage; {nearest(str(name), known)}")
    if not stages or len(set(stages)) != len(stages):
        raise ConfigError(f"stages={stages} must name each stage once; type stages=[teacher,student], say.")
    if config.protocol not in PROTOCOLS:
        raise ConfigError(f"protocol={config.protocol} is no protocol; {nearest(str(config.protocol), PROTOCOLS)}")
    if config.protocol == "val" and not config.data.val_fraction:
        raise ConfigError("protocol=val needs a validation split; type data.val_fraction=0.1, say.")
    for place, name in enumerate(stages):
        distillation = stage_recipe(config, name).get("distillation")
        if distillation is None or distillation["kind"] == "none" or "teacher" in stages[:place]:
            continue
        if "teacher" in stages:
            raise ConfigError(f"stages={stages} trains the {name} before its teacher; type stages=[teacher,{name}].")
        if config.teacher.checkpoint is None:
            raise ConfigError(
                f"The {name} has no teacher: type stages=[teacher,{name}], teacher.checkpoint=FILE, "
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
