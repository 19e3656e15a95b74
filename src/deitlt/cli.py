"""The command `deitlt VERB [overrides]`: entry points, and how they end.

Nothing heavy is imported before the overrides are known to be right, so that a typo is answered at once.
"""

import errno
import importlib
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from deitlt.errors import ConfigError, UserError, nearest, sentence

OK, FAILED, USER_ERROR, INTERRUPTED = 0, 1, 2, 130

# Of the system's refusals, those that a user can do something about.
MENDABLE = (
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST),
    *(errno.ENOSPC, errno.EDQUOT),
)

# Verb -> its configuration and what it does.
HYDRA_VERBS = {
    "train": ("train", "train a teacher and a student (or what stages=[...] names), then print the table"),
    "evaluate": ("evaluate", "measure a trained checkpoint: checkpoint=FILE_OR_RUN"),
    "predict": ("predict", "name the classes of a folder's images: checkpoint=FILE_OR_RUN images=FOLDER"),
    "export": ("export", "write a checkpoint as safetensors, ONNX and a torch.export program: checkpoint=FILE_OR_RUN"),
    "benchmark": ("benchmark", "measure speed and memory on this machine: part=training, views, profile, index, ..."),
    "inspect": (
        "train",
        "draw what student and teacher will see, and the long tail; takes train's overrides",
    ),
}
SWEEP_FLAGS = ("-m", "--multirun")
FLAGS = (  # Hydra's, without its short forms
    *("--help", "--hydra-help", "--version", "--cfg", "--resolve", "--package", "--run", "--multirun", "--info"),
    *("--config-path", "--config-name", "--config-dir", "--shell-completion", "--experimental-rerun"),
)
PLAIN_VERBS = {
    "report": "one table of finished runs, over seeds: deitlt report RUN...; --paper: beside the published numbers"
}

HELP = """deitlt VERB [KEY=VALUE ...]

{verbs}

deitlt VERB --help       the choices and keys of a verb
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
    except OSError as error:
        return _complain(_of_the_system(error))
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # `deitlt ... | head` has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK


def config_dir() -> Path:
    """The folder of the configurations: inside the installed package, or at the root of a checkout."""
    package = Path(__file__).resolve().parent
    return package / "conf" if (package / "conf").is_dir() else package.parents[1] / "conf"


def _dispatch(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        _say(_help())
        return OK if words else USER_ERROR
    verb, overrides = words[0], words[1:]
    if verb == "--version":
        from deitlt import __version__

        _say(__version__)
        return OK
    if verb in PLAIN_VERBS:
        module = importlib.import_module(f"deitlt.tasks.{verb}")
        code: int = module.main(overrides)
        return code
    if verb not in HYDRA_VERBS:
        raise ConfigError(f"{verb!r} is no verb; {nearest(verb, [*HYDRA_VERBS, *PLAIN_VERBS])}")
    return _run_hydra(verb, overrides)


def _run_hydra(verb: str, overrides: list[str]) -> int:
    """Let Hydra compose the configuration and call the verb's task, once or for each job of a sweep."""
    import hydra
    from hydra.errors import HydraException
    from omegaconf import DictConfig
    from omegaconf.errors import OmegaConfBaseException

    from deitlt.tasks.checks import check_values
    from deitlt.tasks.overrides import explain

    config_name = HYDRA_VERBS[verb][0]

    complaints: list[int] = []

    def task(config: DictConfig) -> None:
        # Hydra prints a line of its own for an error that leaves the job; and a sweep goes on with the next job.
        try:
            check_values(config, config_name)  # before torch is loaded
            importlib.import_module(f"deitlt.tasks.{verb}").main(config)
        except UserError as error:
            complaints.append(_complain(sentence(error)))
        except OSError as error:
            complaints.append(_complain(_of_the_system(error)))
        except (HydraException, OmegaConfBaseException) as error:
            complaints.append(_complain(explain(error, config_dir(), config_name, overrides)))

    run = hydra.main(version_base="1.3", config_path=str(config_dir()), config_name=config_name)(task)
    try:
        with _hydra_environment([f"deitlt {verb}", *_flags_first(overrides)]):
            run()
    except (HydraException, OmegaConfBaseException) as error:
        if _debugging():
            raise
        return _complain(explain(error, config_dir(), config_name, overrides))
    return USER_ERROR if complaints else OK


def _flags_first(words: list[str]) -> list[str]:
    """-m before all overrides, for Hydra's parser wants those side by side.

    Raises:
        ConfigError: for a flag that there is not.
    """
    for word in words:
        if word.startswith("--") and word.split("=")[0] not in FLAGS:
            raise ConfigError(f"{word} is no flag; {nearest(word, FLAGS)}")
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
    return HELP.format(verbs="\n".join(f"  {verb:<9} {text}" for verb, text in described.items()))


def _say(text: str) -> None:
    sys.stdout.write(f"{text.rstrip()}\n")


def _complain(text: str) -> int:
    if _debugging() and (error := sys.exc_info()[1]) is not None:
        raise error
    sys.stderr.write(f"deitlt: {text}\n")
    return USER_ERROR


def _of_the_system(error: OSError) -> str:
    """What the system refused, if a user can mend it; else the error goes on."""
    if error.errno not in MENDABLE:
        raise error
    place = f"{error.filename}: " if error.filename else ""
    return f"{place}{error.strerror}; make room or give way there, or type another path, as paths.output_dir=FOLDER."


def _debugging() -> bool:
    return os.environ.get("DEITLT_DEBUG") == "1"
