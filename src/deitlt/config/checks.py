"""Values that cannot be right, whatever is to be done with them: found before torch is loaded."""

from collections.abc import Iterator
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, ListConfig, OmegaConf

from deitlt.config.compose import compose_with, leaves
from deitlt.errors import ConfigError, nearest

# Last words of the keys that may be null; each says in its comment what null means.
NULLABLE = (
    *("drw", "ema", "mixing", "gradient_clip", "devices", "checkpoint", "rand_augment", "width", "depth", "heads"),
    *("imbalance_factor", "max_count", "group_cuts", "train_csv", "test_csv", "data", "data_root", "resume"),
    *("train_list", "test_list", "class_order"),
    *("wandb", "entity", "mode", "threshold", "init", "generated", "compare", "every", "folder"),
)
# Last words of the keys that have no default -> what to type behind them.
PLACEHOLDERS = {
    **{"checkpoint": "RUN", "images": "FOLDER", "root": "FOLDER"},
    **{"train_list": "FILE", "test_list": "FILE", "name": "NAME"},
}
# What the libraries below would refuse in their own words, or only after hours.
LEAST = {
    "seed": 0,
    "evaluate_every": 1,
    "sweep.prune.after_trials": 1,
    "sweep.prune.after_epochs": 1,
    "checkpoint_every": 1,
    "data.num_workers": 0,
    "teacher.gradient_clip": 0,
    "student.gradient_clip": 0,
    "batch_size": 1,
    "num_workers": 0,
    "top": 1,
    "rows": 2,
    "workers": 1,
    "repeats": 1,
    **dict.fromkeys(
        ("transforms.batch", "transforms.batches", "epoch.batches", "profile.batches", "profile.warmup"), 1
    ),
    **dict.fromkeys(("ranks.batch", "ranks.batches", "ranks.warmup"), 1),
    "ranks.devices": 2,
    "trainer.num_nodes": 1,
    "trainer.lost_after": 5,
    "training.batches": 1,
    "generated": 2,
    **dict.fromkeys(("analysis.every", "analysis.images", "images", "agreement.images", "rollout.images"), 1),
    **dict.fromkeys(("sharpness.images", "sharpness.products", "sharpness.probes"), 1),
}
# Last words of the keys that hold a number or null.
NUMBERS = (
    *("imbalance_factor", "max_count", "gradient_clip", "width", "depth", "heads", "threshold", "generated", "every"),
    *("trial", "after_trials"),
)
FOUND_BATCHES = ("teacher.batch_size", "student.batch_size")  # numbers that may be 'auto'
DEVICES = ("trainer.devices", "teacher.devices", "student.devices")
_ALL_KEYS = "type deitlt list keys to see all."
LABEL_ORDERS = ("auto", "original", "authors", "sorted")
PARTS = ("attention", "rank", "diversity", "winners", "calibration", "agreement", "sharpness", "rollout")
CHOICES = {
    "trainer.precision": ("auto", "32-true", "bf16-mixed", "16-mixed"),
    "trainer.compile": ("auto", "true", "false"),
    "student.teacher_input.precision": ("32-true", "bf16-mixed"),
    "trainer.strategy": ("auto", "ddp"),
    "objective.direction": ("maximize", "minimize"),
    "on_broken": ("error", "skip"),
    "data.on_broken": ("error", "skip"),
    "data.cache_on_device": ("auto", "true", "false"),
    "label_order": LABEL_ORDERS,
    "teacher.label_order": LABEL_ORDERS,
    "student.transforms.teacher_sees": ("both", "global"),
    "logger.wandb.mode": ("online", "offline", "disabled"),
    "compare": ("timm",),
    "training.measured": ("teacher", "sam_teacher", "student", "sam_student", "baseline", "sam_baseline"),  # each
    "parts": ("all", *PARTS),  # each of the list
    "analysis.parts": (*PARTS[:4], "agreement"),
    "split": ("test", "val", "train"),
    "formats": ("safetensors", "onnx", "torch_export", "authors"),  # each of the list
}


def check_values(run: DictConfig, config_name: str) -> None:
    """Raise ConfigError where a value cannot be right, whatever it is that is to be done with it."""
    chosen = compose_with(config_name, list(HydraConfig.get().overrides.task), HydraConfig.get().runtime.choices)
    check_keys(run, chosen)
    check_nulls(run, chosen)
    check_types(run, chosen)
    check_ranges(run)
    check_devices(run)
    check_targets(run)
    check_required(run)


def check_keys(run: DictConfig, chosen: DictConfig) -> None:
    """Raise ConfigError where +KEY added what nobody reads, or ~KEY took away what somebody needs.

    Arguments of what is instantiated (below a `_target_`) may be added: its signature judges them.
    """
    ours, theirs = set(_names(run, "")), set(_names(chosen, ""))
    if added := sorted(ours - theirs):
        raise ConfigError(f"{added[0]} is no key; {nearest(added[0], theirs, _ALL_KEYS)}")
    for key in sorted(theirs):
        parent = key.rpartition(".")[0]
        if key not in ours and (not parent or (parent in ours and OmegaConf.select(run, parent) is not None)):
            raise ConfigError(f"{key} is needed; type {key}=VALUE instead of taking it away.")


def _names(node: Any, prefix: str) -> Iterator[str]:
    """Every key outside of what is instantiated, and outside of a node that the run sets to null."""
    if not isinstance(node, DictConfig) or node._is_none() or "_target_" in node:
        return
    for name in map(str, node):
        yield f"{prefix}{name}"
        yield from _names(node._get_node(name), f"{prefix}{name}.")


def check_nulls(run: DictConfig, chosen: DictConfig) -> None:
    """Raise ConfigError where null stands for something that is needed."""
    for key, value in leaves(chosen):
        parts = key.split(".")
        for end in range(1, len(parts) + 1):
            prefix = ".".join(parts[:end])
            if value is None or OmegaConf.select(run, prefix) is not None:
                continue
            if not _is_there(run, prefix):  # ~KEY took it away, and `check_keys` allowed that
                break
            if parts[end - 1] not in NULLABLE:
                raise ConfigError(f"{prefix}=null says nothing, and it is needed; leave {prefix} as it is.")
            break


def _is_there(run: DictConfig, key: str) -> bool:
    parent, _, name = key.rpartition(".")
    node = OmegaConf.select(run, parent) if parent else run
    return isinstance(node, DictConfig) and name in node


def check_types(run: DictConfig, chosen: DictConfig) -> None:
    """Raise ConfigError where a number or a switch was given as something else."""
    theirs = dict(leaves(chosen))
    for key, value in leaves(run):
        if key.rpartition(".")[2] in NUMBERS and not isinstance(value, int | float | None):
            raise ConfigError(f"{key}={value} is no number; type {key}=null for none.")
        wanted = theirs.get(key)
        if value is None or wanted is None or type(value) is type(wanted):
            continue
        kinds = {bool: "true or false", int: "a whole number", float: "a number", list: "a list"}
        is_number = type(wanted) is float and type(value) is int
        is_found = key.endswith(".devices") or (key in FOUND_BATCHES and value == "auto")
        if type(wanted) in kinds and not is_number and not is_found:
            raise ConfigError(f"{key}={value} is not {kinds[type(wanted)]}; type {key}={wanted}, say.")


def check_ranges(run: DictConfig) -> None:
    """Raise ConfigError where a number is below what there can be, or a name is none of a few."""
    for key, least in LEAST.items():
        value = OmegaConf.select(run, key, default=least)
        if isinstance(value, int | float) and value < least:
            raise ConfigError(f"{key}={value} is too small; type {key}={least} or more.")
    for key, choices in CHOICES.items():
        value = OmegaConf.select(run, key)
        for one in value if isinstance(value, ListConfig) else [value]:
            word = str(one).lower() if isinstance(one, bool) else one
            if value is not None and word not in choices:
                raise ConfigError(f"{key}={value} is no choice; {nearest(str(one), choices)}")


def check_devices(run: DictConfig) -> None:
    """Raise ConfigError where a number of devices is neither 'auto' nor 1 or more; a stage's null is the trainer's."""
    for key in DEVICES:
        value = OmegaConf.select(run, key)
        if value is None or value == "auto":
            continue
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ConfigError(f"{key}={value} is no number of devices; type {key}=auto, or {key}=1 or more.")


def check_required(run: DictConfig) -> None:
    """Raise ConfigError where the verb's own keys lack a value; those of data that nobody opens may."""
    for key in map(str, run):
        if OmegaConf.is_missing(run, key):
            raise ConfigError(f"{key} has no value yet; type {key}={PLACEHOLDERS.get(key, 'VALUE')}.")


def check_targets(run: DictConfig) -> None:
    """Raise ConfigError where smoothing would make every class a right answer, each target being above 0."""
    threshold = OmegaConf.select(run, "student.loss.threshold")
    smoothing = OmegaConf.select(run, "student.transforms.mixing.smoothing", default=0)
    if threshold == 0 and smoothing:
        raise ConfigError(
            f"student.loss.threshold=0 with student.transforms.mixing.smoothing={smoothing} makes every class right; "
            "type student.transforms.mixing.smoothing=0 with it."
        )
