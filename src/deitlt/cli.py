"""The command `deitlt VERB [overrides]`: entry points, and how they end.

Nothing heavy is imported before the overrides are known to be right, so that a typo is answered at once.
"""

import errno
import importlib
import logging
import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from deitlt.errors import ConfigError, Preempted, UserError, nearest, sentence
from deitlt.tasks.config_folder import config_dir
from deitlt.tasks.processes import SWEEP_VARIABLE

if TYPE_CHECKING:
    from omegaconf import DictConfig

OK, FAILED, USER_ERROR, INTERRUPTED = 0, 1, 2, 130

# Of the system's refusals, those that a user can do something about.
MENDABLE = (
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST),
    *(errno.ENOSPC, errno.EDQUOT),
)
# Verb -> what names the place of what it writes.
PLACES = {
    **dict.fromkeys(("train", "evaluate", "inspect"), "paths.output_dir=FOLDER"),
    **{"export": "output=FOLDER", "predict": "output=FILE", "analyze": "folder=FOLDER", "benchmark": "output=FILE"},
}

# Verb -> its configuration and what it does.
HYDRA_VERBS = {
    "train": ("train", "train a teacher and a student (or what stages=[...] names), then print the table"),
    "evaluate": ("evaluate", "measure a trained checkpoint: checkpoint=FILE_OR_RUN"),
    "predict": ("predict", "name the classes of a folder's images: checkpoint=FILE_OR_RUN images=FOLDER"),
    "export": ("export", "write a checkpoint as safetensors, ONNX and a torch.export program: checkpoint=FILE_OR_RUN"),
    "analyze": ("analyze", "measure attention, ranks, experts and more of a run or checkpoint: checkpoint=FILE_OR_RUN"),
    "benchmark": ("benchmark", "measure speed and memory on this machine: part=training, views, profile, index, ..."),
    "inspect": (
        "train",
        "draw what student and teacher will see, and the long tail; takes train's overrides",
    ),
}
SWEEP_FLAGS = ("-m", "--multirun")
SHOWING_FLAGS = ("-h", "--help", "--hydra-help", "--version", "-c", "--cfg", "-i", "--info", "--shell-completion")
FLAGS = (  # Hydra's, without its short forms
    *("--help", "--hydra-help", "--version", "--cfg", "--resolve", "--package", "--run", "--multirun", "--info"),
    *("--config-path", "--config-name", "--config-dir", "--shell-completion", "--experimental-rerun"),
)
PLAIN_VERBS = {
    "report": "a table of finished runs, over seeds: deitlt report RUN...; --html FILE: a page; --paper",
    "list": "what there is to choose from: experiments, datasets, models, losses, ..., keys",
    "workspace": "push a ready W&B dashboard: deitlt workspace [ENTITY/]PROJECT; --json prints it",
    "completion": 'tab completion: eval "$(deitlt completion bash)", or zsh or fish',
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
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        return _dispatch(words)
    except UserError as error:
        return _complain(sentence(error))
    except BrokenPipeError:  # `deitlt ... | head` has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except OSError as error:
        return _complain(_of_the_system(error, words[0] if words else ""))
    except KeyboardInterrupt:
        return INTERRUPTED
    except Preempted as stopped:
        return stopped.CODE


def _dispatch(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        _say(_help())
        return OK if words else USER_ERROR
    verb, overrides = words[0], words[1:]
    if verb == "--version":
        from deitlt import __version__

        _say(__version__)
        return OK
    if (verb, *overrides) == ("completion", "--query"):
        return _complete(os.environ.get("COMP_LINE", ""))
    if verb in PLAIN_VERBS:
        module = importlib.import_module(f"deitlt.tasks.{verb}")
        code: int = module.main(overrides)
        return code
    if verb not in HYDRA_VERBS:
        raise ConfigError(f"{verb!r} is no verb; {nearest(verb, [*HYDRA_VERBS, *PLAIN_VERBS])}")
    if {"-h", "--help"} & set(overrides):
        from deitlt.tasks.reference import verb_help

        _say(verb_help(verb, *HYDRA_VERBS[verb]))
        return OK
    if verb == "train" and _sweeps(overrides):
        from deitlt.tasks.sweep import run_sweep

        return run_sweep(overrides, partial(_run_hydra, verb))
    return _run_hydra(verb, overrides)


def _sweeps(overrides: list[str]) -> bool:
    """Whether the words run a sweep.

    Raises:
        ConfigError: they name a ready sweep, but would train once.
    """
    if any(word.split("=")[0] in SHOWING_FLAGS for word in overrides):
        return False
    if any(word in SWEEP_FLAGS for word in overrides):
        return True
    named = next((word for word in overrides if word.startswith("sweep=") and word != "sweep=null"), None)
    if named is not None and _may_be_sweep(named, overrides) and SWEEP_VARIABLE not in os.environ:
        raise ConfigError(f"{named} is a sweep, which has many jobs; type deitlt train -m {named}.")
    return False


def _may_be_sweep(named: str, overrides: list[str]) -> bool:
    """Whether a choice of sweep= is there, or may be in a folder of the user's; Hydra answers one that is not."""
    names = named.partition("=")[2].split(",")
    if any((config_dir() / "sweep" / f"{name}.yaml").is_file() for name in names):
        return True
    return any(word.split("=")[0] == "--config-dir" for word in overrides)


def _complete(line: str) -> int:
    """Print the words that may stand where the line ends; those of the overrides are Hydra's to find."""
    from deitlt.tasks.completion import own_words

    words = line.split()[1:] + [""] * (line[-1:] in ("", " "))
    found = own_words(words or [""], [*HYDRA_VERBS, *PLAIN_VERBS], FLAGS)
    if found is not None:
        sys.stdout.writelines(f"{word}\n" for word in found)  # a verb ends in a blank: the next word begins
    elif words[0] in HYDRA_VERBS:
        os.environ["COMP_LINE"] = " ".join(["deitlt", *words[1:]])  # as if the verb were the program
        return _run_hydra(words[0], ["--shell-completion", "query=fish"])
    return OK


def _run_hydra(verb: str, overrides: list[str]) -> int:
    """Let Hydra compose the configuration and call the verb's task, once or for each job of a sweep."""
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # that a host is gone is said by us, not by a C++ stack
    import hydra
    from hydra.errors import HydraException
    from omegaconf import DictConfig
    from omegaconf.errors import OmegaConfBaseException

    from deitlt.tasks.overrides import explain

    config_name = HYDRA_VERBS[verb][0]

    complaints: list[int] = []

    def task(config: DictConfig) -> float | None:
        # Hydra prints a line of its own for an error that leaves the job; and a sweep goes on with the next job.
        try:
            return _do(verb, config)
        except UserError as error:
            complaints.append(_complain(sentence(error)))
        except OSError as error:
            complaints.append(_complain(_of_the_system(error, verb)))
        except (HydraException, OmegaConfBaseException) as error:
            complaints.append(_complain(explain(error, config_dir(), config_name, overrides)))
        return None

    run = hydra.main(version_base="1.3", config_path=str(config_dir()), config_name=config_name)(task)
    try:
        with _hydra_environment([f"deitlt {verb}", *_flags_first(overrides)]):
            run()
    except (HydraException, OmegaConfBaseException) as error:
        if _debugging():
            raise
        return _complain(explain(error, config_dir(), config_name, overrides))
    return USER_ERROR if complaints else OK


def _do(verb: str, config: "DictConfig") -> float | None:
    """The verb's task; a job of a sweep returns what the sweep compares."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    if verb == "train" and HydraConfig.get().mode == RunMode.MULTIRUN:
        from deitlt.tasks.sweep_job import run_job

        return run_job(config)
    if SWEEP_VARIABLE in os.environ:
        from deitlt.tasks.process_tree import end_with

        end_with(int(os.environ[SWEEP_VARIABLE]))
    from deitlt.tasks.checks import check_values

    check_values(config, HYDRA_VERBS[verb][0])  # before torch is loaded
    importlib.import_module(f"deitlt.tasks.{verb}").main(config)
    return None


def _flags_first(words: list[str]) -> list[str]:
    """-m before all overrides, for Hydra's parser wants those side by side.

    Raises:
        ConfigError: for a flag that there is not, or null in place of a choice.
    """
    for word in words:
        if word.startswith("--") and word.split("=")[0] not in FLAGS:
            raise ConfigError(f"{word} is no flag; {nearest(word, FLAGS)}")
        group, _, name = word.partition("=")
        if name == "null" and group and (config_dir() / group).is_dir():  # Hydra would raise a bare ValueError
            raise ConfigError(f"{word} is no choice; type ~{group} to leave it out.")
    return sorted(words, key=lambda word: word not in SWEEP_FLAGS)


@contextmanager
def _hydra_environment(argv: list[str]) -> Iterator[None]:
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


def _help() -> str:
    described = {verb: text for verb, (_, text) in HYDRA_VERBS.items()} | PLAIN_VERBS
    return HELP.format(verbs="\n".join(f"  {verb:<10} {text}" for verb, text in described.items()))


def _say(text: str) -> None:
    sys.stdout.write(f"{text.rstrip()}\n")


def _complain(text: str) -> int:
    if _debugging() and (error := sys.exc_info()[1]) is not None:
        raise error
    sys.stderr.write(f"deitlt: {text}\n")
    return USER_ERROR


def _of_the_system(error: OSError, verb: str) -> str:
    """What the system refused, if a user can mend it; else the error goes on."""
    if error.errno not in MENDABLE and not _takes_no_folders(error):
        raise error
    place = f"{error.filename}: " if error.filename else ""
    example = f", as {PLACES[verb]}" if verb in PLACES else ""
    return f"{place}{error.strerror}; make room or give way there, or type another path{example}."


def _takes_no_folders(error: OSError) -> bool:
    """Whether a folder could not be made in a folder that is there, as in /proc; any other missing file is a bug's."""
    frames = list(traceback.walk_tb(error.__traceback__))
    if error.errno != errno.ENOENT or not frames or not isinstance(error.filename, str | os.PathLike):
        return False
    last = frames[-1][0]
    is_made = last.f_code.co_name in ("mkdir", "makedirs") and not last.f_globals["__name__"].startswith("deitlt")
    return is_made and os.path.isdir(os.path.dirname(os.path.abspath(error.filename)))


def _debugging() -> bool:
    return os.environ.get("DEITLT_DEBUG") == "1"
