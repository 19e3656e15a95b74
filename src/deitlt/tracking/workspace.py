"""The W&B workspace of a project of ours: what the paper claims, as panels that fill while runs train.

`build_workspace` needs the package wandb-workspaces. What it builds is kept beside this file as workspace.json, without
anything random in it, and that is what is pushed. After a change here:
`python -m deitlt.tracking.workspace > src/deitlt/tracking/workspace.json`.
"""

import json
import re
import sys
from collections.abc import Sequence
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from deitlt.errors import ConfigError
from deitlt.tracking.failures import first_line
from deitlt.tracking.modes import why_not_online

if TYPE_CHECKING:
    from wandb_workspaces.reports.v2.interface import LinePlot
    from wandb_workspaces.workspaces import Section, Workspace

NAME = "DeiT-LT"
_FILE = "workspace.json"
_SPLITS, _TOKENS, _GROUPS = ("val", "test"), ("cls", "dist", "avg"), ("head", "mid", "tail")
_INPUTS = ("clean", "augmented", "mixed", "cropped")
_COLUMNS = ("run:displayName", *(f"summary:final/{token}/{name}" for token in _TOKENS for name in ("balanced", "tail")))
_INSTALL = "pip install 'deitlt[wandb]'"
_ADVICE = "type deitlt workspace [ENTITY/]PROJECT, or --json to see what would be pushed"


def workspace_spec() -> dict[str, Any]:
    """The workspace as W&B's own JSON, as it lies in the package."""
    spec: dict[str, Any] = json.loads(files("deitlt.tracking").joinpath(_FILE).read_text())
    return spec


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
        from wandb_workspaces.workspaces import Workspace, internal
    except ImportError as error:
        raise ConfigError(f"A workspace is pushed by wandb-workspaces, which is missing; type {_INSTALL}.") from error
    if (reason := why_not_online()) is not None:
        raise ConfigError(f"The workspace cannot be pushed: {reason}; {_ADVICE}.")
    import wandb

    try:
        owner = entity or str(wandb.Api().default_entity)
        spec = internal.WorkspaceViewspec.model_validate(workspace_spec())
        view = internal.View(entity=owner, project=project, display_name=NAME, name="", id="", spec=spec)
        address: str = Workspace._from_model(view).save_as_new_view().url
    except Exception as error:  # W&B's errors have no common base
        said = first_line(error)
        raise ConfigError(f"The workspace could not be pushed to {project} ({said}); {_ADVICE}.") from error
    return address


def build_spec() -> dict[str, Any]:
    """What workspace.json should hold; the same at each call.

    Raises:
        ImportError: wandb-workspaces is not installed.
    """
    text = build_workspace()._to_model().spec.model_dump_json(by_alias=True, exclude_none=True)
    spec: dict[str, Any] = json.loads(_without_chance(text))
    return spec


def build_workspace() -> "Workspace":
    """The workspace, of no project yet.

    Raises:
        ImportError: wandb-workspaces is not installed.
    """
    from wandb_workspaces.workspaces import RunsetSettings, Workspace, WorkspaceSettings

    return Workspace(
        entity="entity",
        project="project",
        name=NAME,
        sections=[
            _section("Accuracy by token and group", [_accuracy(name) for name in (*_GROUPS, "balanced")], is_open=True),
            _section("What the protocol reports", _reported()),
            _section("The two experts", _experts()),
            _section("Rank of the features", _ranks()),
            _section("Attention distance", _by_block("distance", "pixels", ("cls", "dist", "patches"))),
            _section("The teacher on what it is asked", _teacher()),
            _section("Learning rate, rho, loss", _training()),
            _section("Speed", _speed()),
            _section("Pictures", _pictures()),
        ],
        settings=WorkspaceSettings(x_axis="epoch"),
        runset_settings=RunsetSettings(pinned_columns=list(_COLUMNS)),
    )


def _section(name: str, panels: list[Any], is_open: bool = False) -> "Section":
    from wandb_workspaces.workspaces import Section

    return Section(name=name, panels=panels, is_open=is_open)


def _line(title: str, names: Sequence[str], unit: str, **options: Any) -> "LinePlot":
    """Curves over the epochs."""
    from wandb_workspaces.reports.v2.interface import LinePlot

    return LinePlot(title=title, x="epoch", y=list(names), title_x="epoch", title_y=unit, **options)


def _accuracy(group: str) -> "LinePlot":
    """Each token's accuracy, and a teacher's, on the splits that are watched."""
    names = [f"{split}/{token}/{group}" for split in _SPLITS for token in _TOKENS]
    return _line(group, [*names, *(f"{split}/{group}" for split in _SPLITS)], "accuracy (%)")


def _reported() -> list[Any]:
    from wandb_workspaces.reports.v2.interface import BarPlot

    names = {group: [f"final/{token}/{group}" for token in _TOKENS] for group in ("all", *_GROUPS)}
    return [BarPlot(title=f"final, {group}", metrics=list(metrics)) for group, metrics in names.items()]


def _experts() -> list["LinePlot"]:
    measures = (("disagreement", "of the images (%)"), ("cosine_distance", "1 - cosine"))
    parts = ("all", *_GROUPS)
    return [
        _line(name.replace("_", " "), [f"analysis/diversity/{name}/{part}" for part in parts], unit)
        for name, unit in measures
    ]


def _by_block(measure: str, unit: str, tokens: tuple[str, ...]) -> list["LinePlot"]:
    """A panel for each token, a curve for each block, however many there are."""
    title, pattern = measure.replace("_", " "), f"analysis/{measure}/{{}}/.*"
    return [_line(f"{title}, {token.upper()}", [], unit, metric_regex=pattern.format(token)) for token in tokens]


def _ranks() -> list["LinePlot"]:
    """Of a student's tokens by block, and of a teacher's features."""
    kinds = {"rank": "components for 99 % of the variance", "effective_rank": "effective rank"}
    return [
        *(panel for kind, unit in kinds.items() for panel in _by_block(kind, unit, ("cls", "dist"))),
        _line("rank, teacher", [f"analysis/{kind}/features" for kind in kinds], "components"),
    ]


def _teacher() -> list["LinePlot"]:
    names = {group: [f"analysis/agreement/{name}/{group}" for name in _INPUTS] for group in ("all", *_GROUPS)}
    return [_line(f"agrees with the truth, {group}", curves, "images (%)") for group, curves in names.items()]


def _training() -> list["LinePlot"]:
    return [
        _line("learning rate", ["train/lr"], "learning rate"),
        _line("rho of SAM", ["train/rho"], "rho"),
        _line("loss", ["train/loss", "train/loss_cls", "train/loss_dist"], "mean of the epoch"),
    ]


def _speed() -> list["LinePlot"]:
    return [
        _line("throughput", ["speed/images_per_second"], "images/s"),
        _line("epoch", ["speed/epoch_seconds"], "s"),
    ]


def _pictures() -> list[Any]:
    from wandb_workspaces.reports.v2.interface import MediaBrowser

    names = ("views", "per_class", "confusion", *(f"confusion_{token}" for token in _TOKENS))
    return [MediaBrowser(title=name.replace("_", " "), media_keys=[f"pictures/{name}"]) for name in names]


def _without_chance(text: str) -> str:
    """The JSON with each random id, of panels, replaced by its number."""
    numbers: dict[str, str] = {}

    def number(match: re.Match[str]) -> str:
        return f'{match[1]}"{numbers.setdefault(match[2], f"panel{len(numbers):02d}")}"'

    return re.sub(r'("(?:__id__|id)":\s*)"(\w+)"', number, text)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(build_spec(), indent=1) + "\n")
