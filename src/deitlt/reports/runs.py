"""Finished runs: their folders, and what metrics.json says."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from deitlt.errors import ConfigError
from deitlt.reports.rows import accuracy_rows

_LISTS: Final = {"class_names": str, "counts": int}  # key of metrics.json -> of what it is a list


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
        metrics = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(f"{file} is not readable JSON ({error}); train that run again or leave it out") from error
    if problem := _problem(metrics):
        raise ConfigError(f"{file} holds no run's accuracies ({problem}); train that run again or leave it out")
    named = [metrics.get("experiment"), metrics.get("method")]
    name = " ".join(part for part in named if part) or file.parent.name
    return Run(file.parent, name, metrics.get("seed"), metrics)


def _problem(metrics: Any) -> str:
    """What shows that no run wrote it, such as another program's metrics.json; '' where a run did."""
    if not isinstance(metrics, dict):
        return "it is no mapping of names to values"
    for key, kind in _LISTS.items():
        found = metrics.get(key) or []
        if not isinstance(found, list) or not all(isinstance(item, kind) for item in found):
            return f"{key} is no list of {'names' if kind is str else 'numbers'}"
    try:
        return "" if accuracy_rows(metrics) else "there is no accuracy of a teacher or student in it"
    except (AttributeError, TypeError, ValueError) as error:
        return str(error)
