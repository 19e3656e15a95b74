"""`deitlt workspace [ENTITY/]PROJECT`: the ready dashboard, pushed to a W&B project as a new view."""

import argparse
import json
import re
import sys
from typing import NoReturn

from deitlt.errors import ConfigError

USAGE = "type deitlt workspace [ENTITY/]PROJECT, or deitlt workspace --json"


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One sentence, as everywhere, in place of the usage and SystemExit."""
        raise ConfigError(f"{message}; {USAGE}.")


def main(arguments: list[str]) -> int:
    """Push the workspace and print its address, or print its JSON.

    Raises:
        ConfigError: the project is no name, or the workspace cannot be pushed.
    """
    options = _parser().parse_args(arguments)
    if options.project is None and not options.json:
        raise ConfigError(f"deitlt workspace needs a project; {USAGE}.")
    if options.project is not None and not re.fullmatch(r"([\w.-]+/)?[\w.-]+", options.project, re.ASCII):
        raise ConfigError(f"{options.project!r} names no project of W&B; {USAGE}.")
    from deitlt.tracking.workspace import push_workspace, workspace_spec  # brings torch and wandb along

    if options.json:
        sys.stdout.write(json.dumps(workspace_spec(), indent=1) + "\n")
        return 0
    entity, _, project = options.project.rpartition("/")
    sys.stdout.write(f"{push_workspace(project, entity or None)}\n")
    return 0


def _parser() -> _Parser:
    parser = _Parser(
        prog="deitlt workspace",
        description="A W&B workspace: accuracy by token and group, diversity, ranks, learning rate and rho, speed.",
    )
    parser.add_argument("project", nargs="?", metavar="[ENTITY/]PROJECT", help="where it is to be a new view")
    parser.add_argument("--json", action="store_true", help="print what would be pushed, and push nothing")
    return parser
