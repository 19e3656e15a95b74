"""The command `deitlt VERB [overrides]`: its verbs, and which of them was typed.

Nothing heavy is imported before the overrides are known to be right, so that a typo is answered at once.
"""

import importlib
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING

from deitlt.errors import INTERRUPTED, OK, USER_ERROR, ConfigError, Preempted, UserError, nearest, refused, sentence

if TYPE_CHECKING:
    from omegaconf import DictConfig

# Verb -> its configuration and what it does.
HYDRA_VERBS = {
    "train": ("train", "train a teacher and a student (or what stages=[...] names), then print the table"),
    "evaluate": ("evaluate", "measure a trained checkpoint: checkpoint=FILE_OR_RUN"),
    "predict": ("predict", "name the classes of a folder's images: checkpoint=FILE_OR_RUN images=FOLDER"),
    "export": ("export", "write a checkpoint as safetensors, ONNX and a torch.export program: checkpoint=FILE_OR_RUN"),
    "analyze": ("analyze", "measure attention, ranks, experts and more of a run or checkpoint: checkpoint=FILE_OR_RUN"),
    "benchmark": (
        "benchmark",
        "measure speed and memory on this machine: part=training, or profile: of a step",
    ),
    "inspect": ("train", "look at the files as train does, draw what the networks will see; takes train's overrides"),
}
PLAIN_VERBS = {
    "report": "a table of finished runs, over seeds: deitlt report RUN...; --html FILE: a page; --paper",
    "list": "what there is to choose from: experiments, datasets, models, losses, ..., keys",
    "workspace": "push a ready W&B dashboard: deitlt workspace [ENTITY/]PROJECT; --json prints it",
    "completion": 'tab completion: eval "$(deitlt completion bash)", or zsh or fish',
}

# Verb -> what names the place of what it writes.
PLACES = {
    **dict.fromkeys(("train", "evaluate", "inspect"), "paths.output_dir=FOLDER"),
    **{"export": "output=FOLDER", "predict": "output=FILE", "analyze": "folder=FOLDER", "benchmark": "output=FILE"},
}

HELP = """deitlt VERB [KEY=VALUE ...]

{verbs}

deitlt VERB --help       its commonest commands, its choices and its keys
deitlt VERB --cfg job    its whole configuration, resolved with the overrides that stand beside it
deitlt VERB -m KEY=A,B   one job for each combination of values

An error is one sentence, and the exit code 2; DEITLT_DEBUG=1 shows its traceback.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: the words after `deitlt`; None takes them from the command line.

    Returns:
        The exit code: 0, or 2 for what the user can mend.
    """
    wait_politely()
    words = list(sys.argv[1:] if argv is None else argv)
    return run_to_its_end(partial(_dispatch, words), words[0] if words else "")


def wait_politely() -> None:
    """Have torch's threads, before it is loaded, sleep soon while they wait for each other, unless told otherwise.

    They would spin for milliseconds while another process has the core of the one that they wait for.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # of GNU's OpenMP, which torch has on Linux


def _dispatch(words: list[str]) -> int:
    verb, *rest = words or [""]
    if verb in ("", "-h", "--help", "help"):
        _say(_help())
        return OK if verb else USER_ERROR
    if verb == "--version":
        _say(version("deitlt"))
        return OK
    if (verb, *rest) == ("completion", "--query"):
        return _complete(os.environ.get("COMP_LINE", ""))
    if verb in PLAIN_VERBS:
        module = importlib.import_module(f"deitlt.commands.{verb}")
        code: int = module.main(rest)
        return code
    if verb not in HYDRA_VERBS:
        raise ConfigError(f"{verb!r} is no verb; {nearest(verb, [*HYDRA_VERBS, *PLAIN_VERBS])}")
    return _configure(verb, rest)


def _configure(verb: str, overrides: list[str]) -> int:
    """A verb that takes overrides: its help, a sweep, or one job."""
    config_name, what = HYDRA_VERBS[verb]
    if {"-h", "--help"} & set(overrides):
        from deitlt.config.reference import verb_help

        _say(verb_help(verb, config_name, what))
        return OK
    from hydra.errors import HydraException

    from deitlt.config.checks import check_overrides, explain
    from deitlt.config.compose import SWEEP_FLAGS, runs_a_sweep

    try:
        check_overrides(overrides, config_name, sweeps=bool(set(SWEEP_FLAGS) & set(overrides)))
    except HydraException as error:
        return complain(error, explain(error, config_name, overrides))
    if verb == "train" and runs_a_sweep(overrides):
        from deitlt.engine.sweep import run_sweep

        return run_sweep(overrides, partial(_run, verb, config_name))
    return _run(verb, config_name, overrides)


def _run(verb: str, config_name: str, overrides: list[str]) -> int:
    """Compose the configuration and do what the verb does, once or for each job of a sweep."""
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from deitlt.config.checks import explain
    from deitlt.config.compose import run_hydra

    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "FATAL")  # that a host is gone is said by us, not by a C++ stack
    complaints: list[int] = []

    def complain_of(error: Exception) -> int:
        if isinstance(error, HydraException | OmegaConfBaseException):  # some of them are OSErrors, too
            return complain(error, explain(error, config_name, overrides))
        return complain(error, in_words(error, verb))

    def task(config: "DictConfig") -> float | None:
        try:
            return perform(verb, config_name, config)
        except (UserError, OSError, HydraException, OmegaConfBaseException) as error:
            complaints.append(complain_of(error))
        return None

    try:
        run_hydra(verb, config_name, overrides, task)
    except (HydraException, OmegaConfBaseException) as error:
        return complain_of(error)
    return USER_ERROR if complaints else OK


def perform(verb: str, config_name: str, config: "DictConfig") -> float | None:
    """Do what a verb does with its composed configuration; a job of a sweep returns what the sweep compares."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    from deitlt.config.compose import SWEEP_JOB, refuse_unflagged_sweep

    if verb == "train" and HydraConfig.get().mode == RunMode.MULTIRUN:
        from deitlt.engine.sweep import run_job

        return run_job(config)
    refuse_unflagged_sweep()
    if SWEEP_JOB in os.environ:
        from deitlt.engine.sweep import end_with_parent

        end_with_parent()
    admit(config, config_name)
    importlib.import_module(f"deitlt.commands.{verb}").main(config)
    return None


def admit(config: "DictConfig", config_name: str) -> None:
    """Raise ConfigError where a composed configuration is wrong, or calls what it may not; before torch is loaded."""
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    from deitlt.config.checks import check_values
    from deitlt.config.trust import refuse_strange_targets, trust

    check_values(config, config_name)
    sources = HydraConfig.get().runtime.config_sources
    trust(config.trust, [source.path for source in sources if source.provider == "command-line"])
    refuse_strange_targets(OmegaConf.to_container(config, resolve=False), "The configuration", resolved=False)


def _complete(line: str) -> int:
    """Print the words that may stand where the line ends; those of the overrides are Hydra's to find."""
    from deitlt.commands.completion import own_words

    words = line.split()[1:]
    words += [""] * (not words or line.endswith(" "))
    found = own_words(words, [*HYDRA_VERBS, *PLAIN_VERBS])
    if found is not None:
        sys.stdout.writelines(f"{word}\n" for word in found)  # a verb ends in a blank: the next word begins
    elif words[0] in HYDRA_VERBS:
        os.environ["COMP_LINE"] = " ".join(["deitlt", *words[1:]])  # as if the verb were the program
        return _run(words[0], HYDRA_VERBS[words[0]][0], ["--shell-completion", "query=fish"])
    return OK


def _help() -> str:
    described = {verb: text for verb, (_, text) in HYDRA_VERBS.items()} | PLAIN_VERBS
    return HELP.format(verbs="\n".join(f"  {verb:<10} {text}" for verb, text in described.items()))


def _say(text: str) -> None:
    sys.stdout.write(f"{text.rstrip()}\n")


def run_to_its_end(command: Callable[[], int], verb: str) -> int:
    """Run a command.

    Args:
        command: answers with its exit code.
        verb: the one that was typed; empty where none was.

    Returns:
        The exit code: the command's, 2 for what the user can mend, 130 if it was interrupted, 75 if preempted.
    """
    try:
        return command()
    except BrokenPipeError:  # `deitlt ... | head` has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except (UserError, OSError) as error:
        return complain(error, in_words(error, verb))
    except KeyboardInterrupt:
        return INTERRUPTED
    except Preempted as stopped:
        return stopped.CODE


def complain(error: Exception, words: str) -> int:
    """Print the sentence that stands for an error; while debugging, the error goes on."""
    if os.environ.get("DEITLT_DEBUG") == "1":
        raise error
    sys.stderr.write(f"deitlt: {words}\n")
    return USER_ERROR


def in_words(error: Exception, verb: str) -> str:
    """What the user did wrong, or what the system refused if a user can mend that; else the error goes on."""
    if isinstance(error, UserError):
        return sentence(error)
    words = refused(error, PLACES.get(verb)) if isinstance(error, OSError) else None
    if words is None:
        raise error
    return words
