"""The one number by which a sweep compares its jobs. No torch here."""

from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from deitlt.config.checks import holds_out
from deitlt.errors import ConfigError, nearest
from deitlt.reports.sweep import read_job

if TYPE_CHECKING:
    from deitlt.callbacks import MedianPruning

NAMES = ("all", "balanced", "head", "mid", "tail", "top5")
FREE = ("mean_prob",)  # fusions of the tokens, measured on the test set only
FITTED = ("matched", "fused", "group_fused", "least_regret")  # those that need held-out images
EMA = "_ema"


def objective_metric(config: DictConfig) -> str:
    """The path into metrics.json that `objective.metric` names, or the balanced accuracy of the last stage.

    A validation split that there is comes before the test set, which must choose nothing unless it is told to.
    """
    named: str | None = OmegaConf.select(config, "objective.metric")
    if named is not None:
        return named
    stage = _trained(config)[-1]
    part = stage if stage == "teacher" else f"{stage}/{_tokens(config, stage)[-1]}"
    return f"{_splits(config)[-1]}{part}/balanced"


def check_objective(config: DictConfig) -> None:
    """Raise ConfigError where `objective.metric` names nothing that the run measures."""
    named: str | None = OmegaConf.select(config, "objective.metric")
    if named is None:
        return
    if named.startswith("val/") and not holds_out(config.data):
        raise ConfigError(f"objective.metric={named} needs a validation split; type data.val_fraction=0.1, say.")
    if not holds_out(config.data) and (fitted := [word for word in named.split("/") if word in FITTED]):
        raise ConfigError(
            f"objective.metric={named}: {fitted[0]} is fitted on held-out images, and there are none; type "
            "data.val_fraction=0.1, say."
        )
    measured = list(_measured(config))
    if named not in measured:
        raise ConfigError(
            f"objective.metric={named} is none that this run measures; {_advice(config, named, measured)}"
        )


def objective_value(metrics: Mapping[str, Any], metric: str) -> float | None:
    """What metrics.json holds at the path, in percent; None where a group has no image, say."""
    value = accuracies_at(metrics, metric).get(metric.rpartition("/")[2])
    return None if value is None else float(value)


def accuracies_at(metrics: Mapping[str, Any], metric: str) -> dict[str, float]:
    """All accuracies of the split, stage and token that the path names, in percent."""
    node: Any = metrics
    for key in metric.split("/")[:-1]:
        node = node.get(key, {}) if isinstance(node, Mapping) else {}
    return {name: node[name] for name in NAMES if node.get(name) is not None}


def logged_as(metric: str) -> tuple[str, str]:
    """The stage that a path speaks of, and under which name its callbacks find the number while it trains.

    'val/student_ema/avg/tail' -> ('student', 'val/ema/avg/tail').
    """
    words = metric.split("/")
    split = words.pop(0) if words[0] == "val" else "test"
    part, *rest = words
    average = ["ema"] if part.endswith(EMA) else []
    return part.removesuffix(EMA), "/".join([split, *average, *rest])


def build_pruning(run: Mapping[str, Any], stage: str, folder: Path) -> "MedianPruning | None":
    """The callback that may stop this stage; None outside a sweep that prunes, and for stages that it does not judge.

    Args:
        run: the run's configuration.
        stage: its name.
        folder: of the stage, in the job's.
    """
    job, prune = read_job(folder.parent), run.get("sweep", {}).get("prune", {})
    if job is None or prune.get("after_trials") is None or logged_as(job.metric)[0] != stage:
        return None
    from deitlt.callbacks import MedianPruning

    direction = str(run["objective"]["direction"])
    return MedianPruning(logged_as(job.metric)[1], folder.parent, folder, direction, **prune)


def _advice(config: DictConfig, named: str, measured: Sequence[str]) -> str:
    """The path that was meant, or how paths are made: there are a hundred."""
    if get_close_matches(named, measured, n=1):
        return nearest(named, measured)
    stage = _trained(config)[-1]
    tokens = _tokens(config, stage)
    form, example = ("STAGE/TOKEN/NAME", f"{stage}/{tokens[-1]}/tail") if tokens else ("STAGE/NAME", f"{stage}/tail")
    return f"type objective.metric={form}, as {example}; NAME: {', '.join(NAMES)}"


def _measured(config: DictConfig) -> Iterator[str]:
    for split in _splits(config):
        for stage in _trained(config):
            for network in ("", EMA) if stage == "student" and config.student.ema is not None else ("",):
                tokens = _tokens(config, stage) or ("",)
                fusions = (*FREE, *FITTED) if holds_out(config.data) else FREE
                beside = fusions if not split and len(tokens) > 1 else ()
                for token in (*tokens, *beside):
                    path = f"{split}{stage}{network}{'/' if token else ''}{token}"
                    yield from (f"{path}/{name}" for name in NAMES)


def _splits(config: DictConfig) -> tuple[str, ...]:
    """The paths' beginnings; the last is what chooses where nothing else is said."""
    return ("", "val/") if holds_out(config.data) else ("",)


def _trained(config: DictConfig) -> list[str]:
    """The stages that the run trains; all that it names, where each is given as a checkpoint."""
    stages = [str(name) for name in config.stages]
    given = [name for name in stages if name != "baseline" and OmegaConf.select(config, f"{name}.checkpoint")]
    return [name for name in stages if name not in given] or stages


def _tokens(config: DictConfig, stage: str) -> tuple[str, ...]:
    """What a stage's network answers by, the one that it is judged by last; a teacher's answer has no name."""
    if stage == "teacher":
        return ()
    distilled = OmegaConf.select(config, "student.model.distilled", default=True)
    if stage == "baseline":
        distilled = OmegaConf.select(config, "baseline.model.distilled", default=distilled)
    return ("cls", "dist", "avg") if distilled else ("cls",)
