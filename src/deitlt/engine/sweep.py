"""`deitlt train -m`: what a sweep needs before its first job, and what it says after its last. No torch here."""

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from shlex import quote
from typing import Any

from hydra import compose, initialize_config_dir
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console

from deitlt.config.checks import check_values
from deitlt.config.compose import config_dir
from deitlt.config.messages import explain
from deitlt.engine.objective import check_objective
from deitlt.engine.sweep_hosts import check_hosts
from deitlt.engine.sweep_words import literal, quoted
from deitlt.errors import ConfigError, Preempted, TrainingError

OPTUNA = "hydra_plugins.hydra_optuna_sweeper."
NOT_OF_A_RUN = ("sweep.", "objective.", "paths.", "hydra.")  # settings of a sweep's file that its best job does without
OF_THE_SWEEP = ("sweep=", "hydra.", "hydra/")  # words that choose its file, and those that may be right only with it
BUSY = 60  # seconds to wait for a study that another job writes to
LOST_WORKER = ("TerminatedWorkerError", "UncompletedJobError", "FailedJobError")  # joblib's, submitit's


@dataclass(frozen=True)
class Sweep:
    """What is known of a sweep before it runs.

    folder: of its jobs. direction: maximize | minimize. pinned: overrides that make all jobs agree on the folder and
    the study. settings: what a job needs beside its own overrides: the user's folder of configurations, and what the
    sweep's own file sets of a run.
    """

    folder: Path
    direction: str
    pinned: list[str]
    settings: list[str]


def run_sweep(words: list[str], run: Callable[[list[str]], int]) -> int:
    """Run the jobs of a sweep, or those that are left of it; then its table, its picture and its best command.

    Args:
        words: what was typed after `deitlt train`.
        run: has Hydra run them.

    Returns:
        The exit code: 0, or what the worst job came to.

    Raises:
        UserError: found before the first job.
    """
    sweep = prepare_sweep(words)
    from deitlt.engine.sweep_summary import conclude_sweep  # draws, so it is imported once the words are right

    try:
        code = run([*in_order(words), *sweep.pinned])
    except (KeyboardInterrupt, Preempted):
        conclude_sweep(sweep.folder, sweep.direction, sweep.settings, Console())
        sys.stderr.write(f"deitlt: stopped; {_how_to_go_on(sweep)}\n")
        raise
    except Exception as error:
        if type(error).__name__ not in LOST_WORKER:
            raise
        conclude_sweep(sweep.folder, sweep.direction, sweep.settings, Console())
        lost = f"A worker of the launcher was killed ({type(error).__name__})"
        raise TrainingError(f"{lost}; {_how_to_go_on(sweep)}.") from error
    return max(code, conclude_sweep(sweep.folder, sweep.direction, sweep.settings, Console()))


def prepare_sweep(words: list[str]) -> Sweep:
    """Compose a first job, so that what is wrong with all of them is said once and before any runs.

    Raises:
        ConfigError: an unknown key or choice, a search that would choose by the test set.
    """
    folder, _, overrides = _sorted(words)
    try:
        with initialize_config_dir(str(config_dir()), version_base="1.3"):
            if folder is None:
                return _prepare(overrides)
            place = Path(folder).absolute()
            _add_folder(place)
            sweep = _prepare(overrides)
            return replace(sweep, settings=["--config-dir", str(place), *sweep.settings])
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(explain(error, "train", overrides)) from error
    finally:
        HydraConfig.instance().cfg = None


def in_order(words: list[str]) -> list[str]:
    """The words with the overrides last and side by side, as Hydra's parser wants them."""
    folder, flags, overrides = _sorted(words)
    return [*flags, *([] if folder is None else ["--config-dir", folder]), *overrides]


def _sorted(words: list[str]) -> tuple[str | None, list[str], list[str]]:
    """The user's own folder of configurations, flags, overrides."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config-dir", "-cd")
    known, rest = parser.parse_known_args(words)
    flags = [word for word in rest if word.startswith("-")]
    return known.config_dir, flags, [word for word in rest if not word.startswith("-")]


def _add_folder(folder: Path) -> None:
    """Have Hydra look into the user's own folder of configurations, too."""
    places = create_config_search_path(str(config_dir()))
    places.prepend("command-line", f"file://{folder}", "schema")
    GlobalHydra.instance().clear()
    Hydra.create_main_hydra2("deitlt", places)


def _prepare(overrides: list[str]) -> Sweep:
    parsed = OverridesParser.create().parse_overrides(overrides)
    fixed = [override.input_line or "" for override in parsed if not override.is_sweep_override()]
    master = compose("train", overrides=fixed, return_hydra_config=True)
    params = [f"{key}={value}" for key, value in (OmegaConf.select(master, "hydra.sweeper.params") or {}).items()]
    swept = [*OverridesParser.create().parse_overrides(params), *parsed]
    job = compose("train", overrides=[_first(override) for override in swept], return_hydra_config=True)
    HydraConfig.instance().set_config(job)
    config = job.copy()
    OmegaConf.set_struct(config, False)
    config.pop("hydra")
    check_values(config, "train")
    _check_swept(config, swept)
    check_objective(config)
    check_hosts(config, job.hydra.launcher)
    folder = Path(str(job.hydra.sweep.dir)).expanduser().absolute()
    pinned = [f"hydra.sweep.dir={quoted(folder)}"]
    if str(job.hydra.sweeper._target_).startswith(OPTUNA):
        _check_search(config)
        pinned += _pin_search(job, folder)
    return Sweep(folder, config.objective.direction, pinned, _settings(fixed, master))


def _first(override: Override) -> str:
    """The override with the first of its values, as one job may get it."""
    if not override.is_sweep_override():
        return override.input_line or ""
    value = override.value()
    if isinstance(value, IntervalSweep):
        return f"{override.get_key_element()}={value.start}"
    return f"{override.get_key_element()}={next(iter(override.sweep_string_iterator()))}"


def _check_swept(config: DictConfig, swept: Sequence[Override]) -> None:
    """Raise ConfigError where another word takes away what is swept: the jobs would all be the same."""
    for override in swept:
        key = override.get_key_element().lstrip("+")
        parent = key.rpartition(".")[0]
        if override.is_sweep_override() and parent and OmegaConf.select(config, parent) is None:
            raise ConfigError(f"The sweep is over {key}, which {parent}=null takes away; leave out {parent}=null.")


def _check_search(config: DictConfig) -> None:
    """Raise UserError where a search would choose by the test set without having been told to, or by a teacher's own
    training images."""
    if not config.data.val_fraction and config.objective.metric is None:
        raise ConfigError(
            "A search by Optuna chooses on the validation split, and there is none; type data.val_fraction=0.1, or "
            "objective.metric=student/avg/balanced to choose on the TEST set."
        )
    if config.teacher.checkpoint is not None or config.student.init is not None:
        from deitlt.engine.sweep_teacher import refuse_seen  # reads it with torch

        refuse_seen(config)


def _pin_search(job: DictConfig, folder: Path) -> list[str]:
    """Where the study is kept, so that every job finds it and the same command goes on with it."""
    from deitlt.engine.optuna_sweeper import register

    register()
    pinned = [f"hydra.sweeper.direction={job.objective.direction}"]
    if job.hydra.sweeper.storage is None:
        pinned.append(f"hydra.sweeper.storage={quoted(f'sqlite:///{folder}/study.db?timeout={BUSY}')}")
    if job.hydra.sweeper.study_name is None:
        pinned.append("hydra.sweeper.study_name=sweep")
    return pinned


def _settings(fixed: Sequence[str], master: DictConfig) -> list[str]:
    """What the sweep's own file changes of a run, as overrides."""
    if not any(word.startswith("sweep=") for word in fixed):
        return []
    others = [word for word in fixed if not word.startswith(OF_THE_SWEEP)]
    ours, theirs = (OmegaConf.to_container(config) for config in (master, compose("train", overrides=others)))
    assert isinstance(ours, dict)
    assert isinstance(theirs, dict)
    return list(_changes(ours, theirs, ""))


def _changes(ours: Mapping[Any, Any], theirs: Mapping[Any, Any], prefix: str) -> Iterator[str]:
    """Overrides that make the one configuration of the other."""
    for name in dict.fromkeys([*theirs, *ours]):
        key, value = f"{prefix}{name}", ours.get(name)
        if f"{key}.".startswith(NOT_OF_A_RUN):
            continue
        if name not in ours:
            yield f"~{key}"
        elif name not in theirs:
            yield f"+{key}={literal(value)}"
        elif isinstance(value, Mapping) and isinstance(theirs[name], Mapping):
            yield from _changes(value, theirs[name], f"{key}.")
        elif value != theirs[name]:
            yield f"{key}={literal(value)}"


def _how_to_go_on(sweep: Sweep) -> str:
    return f"type the same command with paths.sweep_dir={quote(str(sweep.folder))} to go on"
