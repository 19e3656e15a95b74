"""A run as a list of stages, each a node of the configuration: what one needs as plain values, its devices found."""

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from deitlt.checkpoints import find_checkpoint, read_stored
from deitlt.engine.launch import find_environment, local_ranks
from deitlt.engine.run_folder import RunFolder
from deitlt.errors import ConfigError

STAGES = ("teacher", "student", "baseline")  # that conf/train.yaml has; a configuration may have others
STAGE_FILE = "stage.yaml"  # in a stage's folder: its configuration, with nothing of it 'auto' any more
IN_EPOCHS = ("schedule.warmup_epochs", "schedule.factors", "drw.start_epoch", "sam.rho.values")  # of a stage's keys
EXTENDS = "extends"  # in a node: the one that it changes
GRAPHS = "graphs"  # of trainer.compile: compiled, and launched as CUDA graphs
Plain = dict[str, Any]
# What makes half precision fast on a CPU, as Linux calls it.
CPU_FEATURES = ("avx2", "avx512f", "avx512_bf16", "avx512_fp16", "amx_bf16", "amx_tile", "asimd", "sve", "bf16")


@dataclass(frozen=True)
class BatchPlan:
    """How one update's images are shared: devices x batch_size x accumulate.

    batch_size: images for each device at once. accumulate: micro-batches an update.
    """

    devices: int
    batch_size: int
    accumulate: int

    @property
    def images_per_update(self) -> int:
        """Images that one update really sees."""
        return self.devices * self.batch_size * self.accumulate

    def __str__(self) -> str:
        words = [f"{self.devices} device{'s' if self.devices > 1 else ''}", f"{self.batch_size} images"]
        if self.accumulate > 1:
            words.append(f"{self.accumulate} micro-batches")
        return f"{' x '.join(words)} = {self.images_per_update} images an update"


@dataclass(frozen=True)
class StageConfig:
    """Everything that one stage needs, as plain values.

    name: its node in the configuration. folder: where its files go. recipe: the node, with what it extends. trainer:
    with accelerator, devices (ranks on this host), num_nodes, precision and compile resolved. teacher: the checkpoint
    that labels a student's images, or None. run: the whole run's configuration, for the loggers. group: the run's
    name, which its stages share. teacher_digest: of the teacher's weights, whatever its file is called; older runs have
    none.
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
    teacher_digest: str | None = None

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
    def batches(self) -> BatchPlan:
        """How its images per update are shared among its devices."""
        return plan_batches(self.recipe["images_per_update"], self.ranks, self.recipe["batch_size"])

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
    """The stage's node; one that extends another is merged onto that. Shares of its epochs are epochs.

    Raises:
        ConfigError: what is to be epochs is neither a whole number nor a share.
    """
    return without_shares(node_of(config, name), _merged(config, name))


def _merged(config: DictConfig, name: str) -> Plain:
    node = config[name]
    # Runs of older versions do not say what their baseline extends.
    base = node.get(EXTENDS, "student" if name == "baseline" else None)
    if base is None:
        return plain(node)
    changes = {key: value for key, value in plain(node).items() if key != EXTENDS}
    return plain(OmegaConf.merge(OmegaConf.create(_merged(config, base)), changes))


def node_of(config: DictConfig, name: str) -> str:
    """The node whose keys a user changes: 'student' for the baseline."""
    return str(config[name].get(EXTENDS, "student" if name == "baseline" else name))


def make_stage(config: DictConfig, run: RunFolder, name: str) -> StageConfig:
    """The configuration of one stage, its devices and all that follows from them resolved."""
    check_epochs(config, [name])
    recipe = stage_recipe(config, name)
    trainer = plain(config.trainer)
    trainer |= _devices(trainer)
    trainer["precision"] = choose_precision(trainer["precision"], trainer["accelerator"])
    trainer["compile"] = choose_compile(trainer.get("compile", False), trainer["accelerator"])  # older runs have none
    stage = StageConfig(
        name=name,
        folder=str(run.stage(name)),
        seed=config.seed,
        protocol=config.protocol,
        watch_test=config.watch_test,
        evaluate_every=epochs_between(config.evaluate_every, recipe, "evaluate_every"),
        checkpoint_every=epochs_between(config.checkpoint_every, recipe, "checkpoint_every"),
        data=plain(config.data),
        recipe=recipe,
        trainer=trainer,
        logger=plain(config.logger),
        teacher=None,
        run=plain(config),
        group=run.group,
    )
    # A gradient that waits for the next micro-batch, or for other ranks, lies where the next pass writes.
    if trainer["compile"] == GRAPHS and (stage.ranks > 1 or stage.batches.accumulate > 1):
        trainer["compile"] = True
    return stage


def epochs_between(value: int | float, recipe: Mapping[str, Any], key: str) -> int:
    """Epochs between two of something, one at least."""
    return max(1, in_epochs(value, recipe["epochs"], key))


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


def count_devices(
    accelerator: str, devices: int | str, key: str = "trainer.accelerator", devices_key: str = "trainer.devices"
) -> tuple[str, int]:
    """Resolve 'auto' and check that there are as many devices as were asked for.

    Args:
        accelerator: auto | cpu | gpu.
        devices: a number, or 'auto' for every GPU or one CPU process.
        key: what the verb calls the accelerator.
        devices_key: what was typed for the number.

    Returns:
        'cpu' or 'gpu', and the number of devices; a CPU device is a process, at most one a core.

    Raises:
        ConfigError: if there are fewer.
    """
    gpus = torch.cuda.device_count()
    if accelerator == "gpu" and gpus == 0:
        raise ConfigError(f"{key}=gpu, but there is no GPU; type {key}=cpu.")
    chosen = "gpu" if accelerator == "gpu" or (accelerator == "auto" and gpus) else "cpu"
    there_are = gpus if chosen == "gpu" else os.cpu_count() or 1
    if devices == "auto":
        return chosen, there_are if chosen == "gpu" else 1
    if not isinstance(devices, int) or not 1 <= devices <= there_are:
        kind = ("GPU" if chosen == "gpu" else "CPU core") + "s" * (there_are > 1)
        too_many = isinstance(devices, int) and devices > there_are > 1
        advice = f"{there_are} or fewer" if too_many else f"1, or up to {there_are}" if there_are > 1 else "1"
        raise ConfigError(
            f"{devices_key}={devices} cannot be had: this machine has {there_are} {kind}; type {devices_key}={advice}."
        )
    return chosen, devices


def choose_precision(precision: str, accelerator: str) -> str:
    """Resolve 'auto': bf16 on a GPU whose matrix units have it, else what the CPU computes in anyway.

    Args:
        precision: auto | 32-true | bf16-mixed | 16-mixed; anything but 'auto' comes back as it is.
        accelerator: cpu | gpu.
    """
    if precision != "auto":
        return precision
    has_bf16 = accelerator == "gpu" and torch.cuda.is_bf16_supported(including_emulation=False)
    return "bf16-mixed" if has_bf16 else "32-true"


def cpu_told() -> tuple[str | None, list[str]]:
    """The processor's name, and what it has of all that makes half precision fast; None and nothing but on Linux."""
    try:
        told = Path("/proc/cpuinfo").read_text()
    except OSError:
        return None, []
    lines = [line.partition(":") for line in told.splitlines()]
    said = {key.strip(): value.strip() for key, _, value in lines}
    flags = (said.get("flags") or said.get("Features") or "").split()
    return said.get("model name"), [name for name in CPU_FEATURES if name in flags]


def slow_precision(trainer: Mapping[str, Any]) -> str | None:
    """A line on bf16 where a CPU computes it without instructions for it; None where it has them, or nobody knows."""
    _, features = cpu_told()
    if trainer["accelerator"] != "cpu" or trainer["precision"] != "bf16-mixed" or not features:
        return None
    if {"avx512_bf16", "amx_bf16", "bf16"} & set(features):
        return None
    return (
        "trainer: this CPU has no bf16 instructions, so that bf16-mixed is slower than 32-true (2.3 times for "
        "DeiT-Ti); type trainer.precision=32-true."
    )


def choose_compile(compile_: bool | str, accelerator: str) -> bool | str:
    """Resolve 'auto': compile for a GPU, where it can be done; a CPU gains less than a short run pays for it.

    Args:
        compile_: auto | graphs | true | false.
        accelerator: cpu | gpu.

    Returns:
        Whether to compile; `GRAPHS` where that was asked for and 'auto' would compile.

    Raises:
        ConfigError: compiling was asked for, and something that it needs is missing.
    """
    asked = str(compile_).lower()
    missing = None if asked == "false" else _missing_to_compile(accelerator)
    if asked == "true" and missing is not None:
        raise ConfigError(
            f"trainer.compile=true needs {missing}, which this machine does not have; install it, or type "
            "trainer.compile=false."
        )
    if asked == "true":
        return True
    compiles = asked != "false" and accelerator == "gpu" and missing is None
    return GRAPHS if compiles and asked == GRAPHS else compiles


def _missing_to_compile(accelerator: str) -> str | None:
    """What torch's compiler would look for in vain: it writes C++ for a CPU, and for a GPU Triton with a C launcher."""
    if accelerator == "gpu" and find_spec("triton") is None:
        return "Triton (pip install triton)"
    variable, names = ("CC", ("gcc", "clang")) if accelerator == "gpu" else ("CXX", ("g++", "clang++"))
    given = os.environ.get(variable)
    if any(shutil.which(name) for name in ([given] if given else names)):
        return None
    return f"a compiler ({given or ' or '.join(names)})"


def plan_batches(images_per_update: int, devices: int, batch_size: int) -> BatchPlan:
    """Keep the recipe's images per update on any number of devices.

    The batch of a device shrinks where an update has fewer images than the devices would take; otherwise
    gradients accumulate, rounded to the nearest whole number of micro-batches.

    Raises:
        ConfigError: if there are more devices than images in an update.
    """
    if devices > images_per_update:
        raise ConfigError(
            f"{devices} devices cannot share images_per_update={images_per_update}; "
            f"type trainer.devices={images_per_update} or fewer."
        )
    batch_size = min(batch_size, images_per_update // devices)
    return BatchPlan(devices, batch_size, max(1, round(images_per_update / (devices * batch_size))))


def given_checkpoint(config: DictConfig, name: str) -> str | None:
    """What stands for a stage, if it was given; one that extends another is always trained."""
    given: str | None = None if name not in config or node_of(config, name) != name else config[name].checkpoint
    return given


def with_teacher(stage: StageConfig, config: DictConfig, run: RunFolder) -> StageConfig:
    """The stage with the checkpoint that labels its images, given or trained before."""
    if not stage.distils:
        return stage
    given = given_checkpoint(config, "teacher")
    path = find_checkpoint(given or run.path, ("teacher",))
    return replace(stage, teacher=str(path.absolute()), teacher_digest=read_stored(path).digest)


def in_epochs(value: int | float, epochs: int, key: str) -> int:
    """A number of epochs as it is, and a share of a stage's as the nearest whole number.

    Args:
        value: whole, or above 0 and below 1.
        epochs: of the stage.
        key: that has it, for the error.

    Raises:
        ConfigError: it is neither.
    """
    if isinstance(value, float) and 0 < value < 1:
        return int(value * epochs + 0.5)
    if isinstance(value, float) and value != 0:
        raise ConfigError(
            f"{key}={value} is neither a whole number of epochs nor a share of them; type {key}={max(1, int(value))} "
            f"for epochs, or {key}=0.7, say, a share below 1."
        )
    return int(value)


def without_shares(name: str, recipe: Plain) -> Plain:
    """A stage's recipe, `name` of its node, with shares of its epochs as epochs."""
    epochs = int(recipe["epochs"])

    def resolved(value: Any, key: str) -> Any:
        if isinstance(value, list):  # of pairs that begin with an epoch
            return [[resolved(pair[0], key), *pair[1:]] if isinstance(pair, list) and pair else pair for pair in value]
        found = in_epochs(value, epochs, key) if isinstance(value, int | float) else value
        return min(found, epochs - 1) if found != value and key.endswith("start_epoch") else found

    def below(node: Plain, path: str, wanted: Sequence[str]) -> Plain:
        """The node, in which the key that is `wanted`, names one inside the other, is resolved where it is there."""
        first, *rest = wanted
        if not isinstance(node, dict) or first not in node:
            return node
        key = f"{path}.{first}"
        return {**node, first: below(node[first], key, rest) if rest else resolved(node[first], key)}

    for key in IN_EPOCHS:
        recipe = below(recipe, name, key.split("."))
    return recipe


def check_epochs(config: DictConfig, names: Sequence[str]) -> None:
    """Raise ConfigError where re-weighting begins in none of a stage's epochs; all such stages are named."""
    late: dict[str, tuple[int, int]] = {}
    for name in names:
        recipe, node = stage_recipe(config, name), node_of(config, name)
        drw, epochs = recipe.get("drw"), recipe["epochs"]
        if drw is not None and not 0 <= drw["start_epoch"] < epochs:
            late[f"{node}.drw"] = drw["start_epoch"], epochs
    if not late:
        return
    said = " and ".join(
        f"{key}.start_epoch={start} is not among the epochs 0 to {epochs - 1}" for key, (start, epochs) in late.items()
    )
    shares = " ".join(f"{key}.start_epoch=0.8" for key in late)
    nulls = " ".join(f"{key}=null" for key in late)
    raise ConfigError(f"{said}; type {shares}, a share of the epochs, or {nulls} for no re-weighting.")
