"""`deitlt workspace [ENTITY/]PROJECT`: the ready dashboard, pushed to a W&B project as a new view."""

import re
import secrets
import sys
from importlib.resources import files

from deitlt.commands import Parser
from deitlt.errors import ConfigError

USAGE = "type deitlt workspace [ENTITY/]PROJECT, or deitlt workspace --json"


def main(arguments: list[str]) -> int:
    """Push the workspace and print its address, or print its JSON.

    Raises:
        ConfigError: the project is no name, or the workspace cannot be pushed.
    """
    parser = Parser(
        f"{USAGE}.",
        prog="deitlt workspace",
        description="A W&B workspace: accuracy by token and group, diversity, ranks, learning rate and rho, speed.",
    )
    parser.add_argument("project", nargs="?", metavar="[ENTITY/]PROJECT", help="where it is to be a new view")
    parser.add_argument("--json", action="store_true", help="print what would be pushed, and push nothing")
    options = parser.parse_args(arguments)
    if options.project is None and not options.json:
        raise ConfigError(f"deitlt workspace needs a project; {USAGE}.")
    if options.project is not None and not re.fullmatch(r"([\w.-]+/)?[\w.-]+", options.project, re.ASCII):
        raise ConfigError(f"{options.project!r} names no project of W&B; {USAGE}.")
    if options.json:
        sys.stdout.write(workspace_json())
        return 0
    entity, _, project = options.project.rpartition("/")
    sys.stdout.write(f"{push_workspace(project, entity or None)}\n")
    return 0


def workspace_json() -> str:
    """The workspace as W&B's own JSON, as it lies in the package."""
    return files("deitlt.tracking").joinpath("workspace.json").read_text()


def push_workspace(project: str, entity: str | None = None) -> str:
    """Make the workspace a new view of a project.

    Args:
        project: W&B's project; it must be there, with a run in it, say.
        entity: the user or team; None is the key's own.

    Returns:
        The view's address.

    Raises:
        ConfigError: wandb-workspaces is missing, W&B cannot be reached or takes no key, or has no such project.
    """
    try:
        from wandb_workspaces.workspaces import internal
    except ImportError as error:
        install = "pip install 'deitlt[wandb]'"
        raise ConfigError(f"A workspace is pushed by wandb-workspaces, which is missing; type {install}.") from error
    from deitlt.tracking import first_line, why_not_online  # brings torch and wandb along

    if (reason := why_not_online()) is not None:
        raise ConfigError(f"The workspace cannot be pushed: {reason}; {USAGE}.")
    import wandb

    try:
        place = wandb.Api().project(project, entity or str(wandb.Api().default_entity))
        spec, view = internal.WorkspaceViewspec.model_validate_json(workspace_json()), secrets.token_hex(6)
        names = {"name": f"nw-{view}-v", "display_name": "DeiT-LT", "id": ""}
        internal.upsert_view2(internal.View(entity=place.entity, project=project, spec=spec, **names))
        return f"{place.url}?nw={view}"
    except Exception as error:  # W&B's errors have no common base
        said = first_line(error)
        raise ConfigError(f"The workspace could not be pushed to {project} ({said}); {USAGE}.") from error
