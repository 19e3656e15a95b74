"""A verb that takes overrides: Hydra composes its configuration and calls its task. No torch here."""

import importlib
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from deitlt.config.checks import check_values
from deitlt.config.config_folder import config_dir
from deitlt.config.flags import check_flags, flags_first
from deitlt.config.overrides import explain
from deitlt.engine.endings import OK, USER_ERROR, complain, in_words
from deitlt.engine.processes import SWEEP_VARIABLE
from deitlt.errors import ConfigError, UserError


def run_hydra(verb: str, config_name: str, overrides: list[str]) -> int:
    """Let Hydra compose the configuration and call the verb's task, once or for each job of a sweep.

    Args:
        verb: the task is the `main` of its module in `deitlt.tasks`.
        config_name: the file in conf/ that it begins with.
        overrides: what was typed after the verb.

    Returns:
        The exit code: 0, or 2 where some job or the overrides can be mended.

    Raises:
        ConfigError: for a flag that there is not, or null in place of a choice.
    """
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "FATAL")  # that a host is gone is said by us, not by a C++ stack
    complaints: list[int] = []

    def task(config: DictConfig) -> float | None:
        # Hydra prints a line of its own for an error that leaves the job; and a sweep goes on with the next job.
        try:
            return _do(verb, config_name, config)
        except (UserError, OSError) as error:
            complaints.append(complain(error, in_words(error, verb)))
        except (HydraException, OmegaConfBaseException) as error:
            complaints.append(complain(error, explain(error, config_dir(), config_name, overrides)))
        return None

    check_flags(overrides)
    _check_choices(overrides)
    run = hydra.main(version_base="1.3", config_path=str(config_dir()), config_name=config_name)(task)
    try:
        with _environment([f"deitlt {verb}", *flags_first(overrides)]):
            run()
    except (HydraException, OmegaConfBaseException) as error:
        return complain(error, explain(error, config_dir(), config_name, overrides))
    return USER_ERROR if complaints else OK


def _do(verb: str, config_name: str, config: DictConfig) -> float | None:
    """The verb's task; a job of a sweep returns what the sweep compares."""
    if verb == "train" and HydraConfig.get().mode == RunMode.MULTIRUN:
        from deitlt.engine.sweep_job import run_job

        return run_job(config)
    if SWEEP_VARIABLE in os.environ:
        from deitlt.engine.process_tree import end_with

        end_with(int(os.environ[SWEEP_VARIABLE]))
    check_values(config, config_name)  # before torch is loaded
    importlib.import_module(f"deitlt.commands.{verb}").main(config)
    return None


def _check_choices(overrides: list[str]) -> None:
    """Raise ConfigError where null stands in place of a choice: Hydra would raise a bare ValueError."""
    for word in overrides:
        group, _, name = word.partition("=")
        if name == "null" and group and (config_dir() / group).is_dir():
            raise ConfigError(f"{word} is no choice; type ~{group} to leave it out.")


@contextmanager
def _environment(argv: list[str]) -> Iterator[None]:
    """Hydra reads the command line, hides what went wrong unless it is told to raise it, and takes over logging."""
    old_argv, old_flag = sys.argv, os.environ.get("HYDRA_FULL_ERROR")
    old_handlers, old_level = logging.root.handlers[:], logging.root.level
    sys.argv = argv
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        yield
    finally:
        sys.argv = old_argv
        logging.root.handlers[:] = old_handlers
        logging.root.setLevel(old_level)
        if old_flag is None:
            del os.environ["HYDRA_FULL_ERROR"]
        else:
            os.environ["HYDRA_FULL_ERROR"] = old_flag
