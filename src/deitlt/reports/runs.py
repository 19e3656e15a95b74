"""Finished runs: their folders, what metrics.json says, and which of them belong together."""

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from deitlt.errors import ConfigError

PARTS: Final = {
    "teacher": "teacher",
    "teacher_ema": "teacher (EMA)",
    "student": "student",
    "student_ema": "student (EMA)",
    "baseline": "plain ViT",
    "baseline_ema": "plain ViT (EMA)",
}
TOKENS: Final = {
    "cls": "CLS",
    "dist": "DIST",
    "avg": "AVG",
    "mean_prob": "mean of probabilities",
    "matched": "AVG, temperatures matched",
    "fused": "fused, one weight",
    "group_fused": "fused, one weight a group",
    "least_regret": "fused, least regret",
}
PROTOCOLS: Final = {
    "last": "last epoch",
    "val": "best epoch on the validation split",
    "paper": "best epoch on the TEST set, as the paper's code chose it: optimistic",
}
PAGE: Final = "report.html"  # in a run's folder: of that run
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

    @property
    def known_seed(self) -> int | None:
        """Equal folder names alone do not make one experiment, so without its name no seed is another."""
        return self.seed if self.metrics.get("experiment") else None


@dataclass(frozen=True)
class AccuracyRow:
    """One model's, or one of its tokens' or their fusions', accuracies.

    part: a key of metrics.json, such as 'student'. token: of `TOKENS`, or '' for a model with one answer.
    accuracy: 'all', 'balanced', 'head', 'mid', 'tail', 'top5' -> percent; what was not measured is absent.
    """

    part: str
    token: str
    label: str
    accuracy: Mapping[str, float]


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


def accuracy_rows(metrics: Mapping[str, Any]) -> list[AccuracyRow]:
    """The accuracies of one run under the names that all tables use, teacher first; what was not trained is absent.

    Args:
        metrics: what metrics.json holds. A part is a dict of accuracies, or of tokens that hold one each.
    """
    rows = []
    for part, label in PARTS.items():
        content = metrics.get(part) or {}
        tokens = {"": content} if "all" in content else {t: content[t] for t in TOKENS if t in content}
        for token, accuracy in tokens.items():
            # A plain ViT has one token: its name would only suggest that there is another.
            named = token and not (part.startswith("baseline") and len(tokens) == 1)
            known = {name: float(value) for name, value in accuracy.items() if value is not None}
            rows.append(AccuracyRow(part, token, f"{label} {TOKENS[token]}" if named else label, known))
    return rows


def protocol_in_words(protocol: str | None) -> str:
    """Which epoch the numbers are of, in words."""
    return PROTOCOLS.get(protocol or "", f"protocol {protocol}" if protocol else "of the checkpoint that was named")


def run_names(runs: Sequence[Run]) -> list[str]:
    """Each run's name in a table, with protocol and folder added where the name alone would mislead."""
    mixed = len({run.protocol for run in runs}) > 1
    changed = changed_recipes(runs)
    # What no two runs of a mean may share.
    identities = [(run.experiment, run.protocol, run.known_seed, run.changes) for run in runs]
    same = Counter(identities)
    names = []
    for run, identity in zip(runs, identities, strict=True):
        extra = [run.protocol] if mixed else []
        if run.changes:
            extra.append(f"changed recipe {changed.index(run.changes) + 1}")
        if same[identity] > 1:
            extra.append(os.path.relpath(run.folder, os.path.commonpath([r.folder for r in runs])))
        names.append(f"{run.experiment} ({', '.join(extra)})" if extra else run.experiment)
    return names


def changed_recipes(runs: Sequence[Run]) -> list[tuple[str, ...]]:
    """The different sets of changes among the runs, numbered from 1 in the table and told under it."""
    return list(dict.fromkeys(run.changes for run in runs if run.changes))


def by_data(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """The runs of each data set under its title, in the order in which they were given.

    Runs of one data set have the same classes and the same training images per class.
    """
    gathered: dict[tuple[object, ...], list[Run]] = {}
    for run in runs:
        gathered.setdefault(data_key(run.metrics), []).append(run)
    titled: dict[str, list[Run]] = {}
    for found in gathered.values():
        title = data_title(found[0].metrics)
        same = sum(known == title or known.startswith(f"{title} (") for known in titled)
        titled[f"{title} ({same + 1})" if same else title] = found
    return titled


def check_same_data(runs: Sequence[Run]) -> None:
    """Raise ConfigError where the runs are of different data, whose numbers do not belong in one table."""
    for run in runs[1:]:
        for key, what in (("class_names", "classes"), ("counts", "training images per class")):
            if run.metrics.get(key) != runs[0].metrics.get(key):
                first, other = (f"{r.folder} ({data_size(r.metrics)})" for r in (runs[0], run))
                raise ConfigError(
                    f"{first} and {other} differ in their {what},"
                    " so one table cannot compare them; give `deitlt report` the runs of one data set and one"
                    " data.imbalance_factor at a time"
                )


def data_key(metrics: Mapping[str, Any]) -> tuple[object, ...]:
    """What runs of one data set share: data of one name, but with other classes, are other data."""
    return (*(metrics.get("class_names") or ()), *(metrics.get("counts") or ()))


def data_title(metrics: Mapping[str, Any]) -> str:
    """'digits, imbalance 20: 10 classes, 405 images'."""
    return f"{data_name(metrics)}: {data_size(metrics)}"


def data_size(metrics: Mapping[str, Any]) -> str:
    """'10 classes, 405 images'."""
    counts = metrics.get("counts") or []
    return f"{len(counts):,} classes, {sum(counts):,} images"


def data_name(metrics: Mapping[str, Any]) -> str:
    """'digits, imbalance 20'."""
    factor = metrics.get("imbalance_factor")
    tail = f"imbalance {1 / factor:g}" if factor else "as it is"
    return f"{metrics.get('data') or 'data without a name'}, {tail}"


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
