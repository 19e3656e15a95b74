"""The command `deitlt VERB [overrides]`: its verbs, and which of them was typed.

Nothing heavy is imported before the overrides are known to be right, so that a typo is answered at once.
"""

import importlib
import os
import sys
from collections.abc import Sequence
from functools import partial

from deitlt import __version__
from deitlt.config.flags import FLAGS, runs_a_sweep
from deitlt.engine.endings import OK, USER_ERROR, run_to_its_end
from deitlt.errors import ConfigError, nearest

# Verb -> its configuration and what it does.
HYDRA_VERBS = {
    "train": ("train", "train a teacher and a student (or what stages=[...] names), then print the table"),
    "evaluate": ("evaluate", "measure a trained checkpoint: checkpoint=FILE_OR_RUN"),
    "predict": ("predict", "name the classes of a folder's images: checkpoint=FILE_OR_RUN images=FOLDER"),
    "export": ("export", "write a checkpoint as safetensors, ONNX and a torch.export program: checkpoint=FILE_OR_RUN"),
    "analyze": ("analyze", "measure attention, ranks, experts and more of a run or checkpoint: checkpoint=FILE_OR_RUN"),
    "benchmark": ("benchmark", "measure speed and memory on this machine: part=training, views, profile, index, ..."),
    "inspect": ("train", "draw what student and teacher will see, and the long tail; takes train's overrides"),
}
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
    return run_to_its_end(partial(_dispatch, words), words[0] if words else "")


def _dispatch(words: list[str]) -> int:
    verb, *rest = words or [""]
    if verb in ("", "-h", "--help", "help"):
        _say(_help())
        return OK if verb else USER_ERROR
    if verb == "--version":
        _say(__version__)
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
    from deitlt.config.hydra_job import run_hydra

    if verb == "train" and runs_a_sweep(overrides):
        from deitlt.engine.sweep import run_sweep

        return run_sweep(overrides, partial(run_hydra, verb, config_name))
    return run_hydra(verb, config_name, overrides)


def _complete(line: str) -> int:
    """Print the words that may stand where the line ends; those of the overrides are Hydra's to find."""
    from deitlt.commands.completion import own_words, words_of

    words = words_of(line)
    found = own_words(words, [*HYDRA_VERBS, *PLAIN_VERBS], FLAGS)
    if found is not None:
        sys.stdout.writelines(f"{word}\n" for word in found)  # a verb ends in a blank: the next word begins
    elif words[0] in HYDRA_VERBS:
        os.environ["COMP_LINE"] = " ".join(["deitlt", *words[1:]])  # as if the verb were the program
        return _configure(words[0], ["--shell-completion", "query=fish"])
    return OK


def _help() -> str:
    described = {verb: text for verb, (_, text) in HYDRA_VERBS.items()} | PLAIN_VERBS
    return HELP.format(verbs="\n".join(f"  {verb:<10} {text}" for verb, text in described.items()))


def _say(text: str) -> None:
    sys.stdout.write(f"{text.rstrip()}\n")
