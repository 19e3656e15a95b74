"""Finished runs: their folders, and what metrics.json says."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deitlt.errors import ConfigError
from deitlt.report.rows import accuracy_rows


@dataclass(frozen=True)
class Run:
    """A finished run: experiment is its name in a table, the folder's where it was composed without one."""

    folder: Path
    experiment: str
    seed: int | None
    metrics: dict[str, Any]

    @property
    def protocol(self) -> str:
        """'last', 'val' or 'paper'; empty where it was not recorded."""
        return str(self.metrics.get("protocol") or "")

    @property
    def changes(self) -> tuple[str, ...]:
        """What the run changed in its recipe: runs that changed different things are different experiments."""
        return tuple(str(change) for change in self.metrics.get("recipe_differences") or ())


def read_runs(folders: Sequence[Path]) -> list[Run]:
    """Every run in the folders or below them, each once; an evaluation only from its own folder.

    Raises:
        ConfigError: a folder holds no finished run, or a metrics.json cannot be read.
    """
    found: dict[Path, Run] = {}
    for folder in folders:
        runs = [_read(file.resolve()) for file in sorted(folder.rglob("metrics.json"))]
        kept = [run for run in runs if run.folder == folder.resolve() or not _is_evaluation(run.metrics)]
        if not kept:
            raise ConfigError(
                f"{folder} holds no finished run: there is no metrics.json in it or below it; give a folder"
                " that `deitlt train` wrote, as in `deitlt report FOLDER`"
            )
        found |= {run.folder: run for run in kept}
    return list(found.values())


def _is_evaluation(metrics: Mapping[str, Any]) -> bool:
    """Whether `deitlt evaluate` wrote it: of a checkpoint, which it names, and nothing was trained."""
    return "checkpoints" in metrics and "seconds" not in metrics


def _read(file: Path) -> Run:
    try:
        metrics = dict(json.loads(file.read_text(encoding="utf-8")))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{file} is not readable JSON ({error}); train that run again or leave it out") from error
    try:
        accuracy_rows(metrics)
    except (AttributeError, TypeError, ValueError) as error:
        raise ConfigError(
            f"{file} holds no run's accuracies ({error}); train that run again or leave it out"
        ) from error
    named = [metrics.get("experiment"), metrics.get("method")]
    name = " ".join(part for part in named if part) or file.parent.name
    return Run(file.parent, name, metrics.get("seed"), metrics)
