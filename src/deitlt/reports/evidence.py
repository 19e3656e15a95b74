"""All that a finished run's folder says: configuration, curves, recalls, analyses, pictures."""

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import yaml

from deitlt.errors import ConfigError
from deitlt.reports.runs import Run
from deitlt.reports.samples import Sample, samples_of

Plain: TypeAlias = Mapping[str, Any]
Points: TypeAlias = list[tuple[float, float]]  # (epochs that were finished, value)
STAGES: Final = ("teacher", "student", "baseline")
_NO_SERIES: Final = ("class", "group", "train_images")


@dataclass(frozen=True)
class Evidence:
    """What one run left; what it did not write is empty.

    name: the run's in the tables, equal for the seeds of one experiment. config: config.yaml. curves: stage ->
    column of its metrics.csv -> points. recalls: series of per_class.csv -> [C] percent, None where the class has
    no test image. analyses: stage -> each part of its
    analysis as it was measured last. samples, epochs: stage -> part -> the images that it was measured on, and after
    how many epochs.
    history: stage -> its analyses while training, by epoch.
    stages: stage -> its stage.yaml; of a teacher that was given, the one beside its checkpoint, if it is there.
    """

    run: Run
    name: str
    config: Plain
    curves: Mapping[str, Mapping[str, Points]]
    recalls: Mapping[str, list[float | None]]
    analyses: Mapping[str, Plain]
    samples: Mapping[str, Mapping[str, Sample]]
    epochs: Mapping[str, Mapping[str, int]]
    history: Mapping[str, Sequence[Plain]]
    stages: Mapping[str, Plain]

    @property
    def metrics(self) -> Plain:
        """The content of metrics.json."""
        return self.run.metrics


def read_evidence(run: Run, name: str) -> Evidence:
    """Everything that the run's folder holds.

    Raises:
        ConfigError: a file is there and cannot be read.
    """
    config = _yaml(run.folder / "config.yaml")
    stages = [stage for stage in STAGES if (run.folder / stage).is_dir()]
    history = {stage: _history(run.folder / stage) for stage in stages}
    measured = {stage: [*history[stage], _json(run.folder / stage / "analysis.json")] for stage in stages}
    found = {stage: _newest(analyses) for stage, analyses in measured.items()}
    return Evidence(
        run=run,
        name=name,
        config=config,
        curves={stage: _curves(run.folder / stage / "metrics.csv") for stage in stages},
        recalls=_recalls(run.folder / "per_class.csv"),
        analyses={stage: analysis for stage, analysis in found.items() if analysis},
        samples={stage: _newest([*map(samples_of, analyses)]) for stage, analyses in measured.items()},
        epochs={stage: _newest([*map(_epochs, analyses)]) for stage, analyses in measured.items()},
        history=history,
        stages=_stages(run.folder, dig(config, "teacher", "checkpoint")),
    )


def dig(content: Any, *keys: str) -> Any:
    """What lies under the keys, one inside the other; None where one of them is missing."""
    for key in keys:
        content = content.get(key) if isinstance(content, Mapping) else None
    return content


def _stages(folder: Path, teacher: str | None) -> dict[str, Plain]:
    files = {stage: [folder / stage / "stage.yaml"] for stage in STAGES}
    if teacher is not None:  # a run's folder, a stage's, or a file in it
        given = Path(teacher)
        files["teacher"] += [place / "stage.yaml" for place in (given / "teacher", given, given.parent)]
    found = {stage: next((file for file in places if file.is_file()), None) for stage, places in files.items()}
    return {stage: _yaml(file) for stage, file in found.items() if file is not None}


def _history(stage: Path) -> list[Plain]:
    analyses = [_json(file) for file in sorted(stage.glob("analysis/epoch_*.json"))]
    return sorted((a for a in analyses if "epoch" in a), key=lambda analysis: int(analysis["epoch"]))


def _newest(analyses: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Each part as it was measured last: what the teacher says is asked once, before the first epoch."""
    return {part: content for analysis in analyses for part, content in analysis.items()}


def _epochs(analysis: Plain) -> dict[str, int]:
    """Part -> the epochs after which it was measured; a checkpoint of another program does not say."""
    return {part: int(analysis["epoch"]) for part in analysis} if "epoch" in analysis else {}


def _json(file: Path) -> Plain:
    """The file's content; nothing where there is no such file."""
    if not file.exists():
        return {}
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{file} is not readable JSON ({error}); delete it, or type deitlt analyze again.") from error


def _yaml(file: Path) -> Plain:
    if not file.exists():
        return {}
    try:
        return dict(yaml.safe_load(file.read_text(encoding="utf-8")) or {})
    except (yaml.YAMLError, TypeError, ValueError) as error:
        where = str(error).splitlines()[0]
        raise ConfigError(f"{file} is not readable YAML ({where}); leave that run out of the report.") from error


def _curves(file: Path) -> dict[str, Points]:
    """Each column of metrics.csv with what was logged; a row of epoch 0 stands where one epoch is finished."""
    rows = [row for row in _rows(file) if row.get("epoch")]
    last = max((float(row["epoch"]) for row in rows if row.get("train/loss")), default=float("inf")) + 1
    curves: dict[str, Points] = {}
    for row in rows:
        for column, value in row.items():
            if value and column not in ("epoch", "step") and math.isfinite(float(value)):
                # The last evaluation is logged when no epoch is left.
                curves.setdefault(column, []).append((min(float(row["epoch"]) + 1, last), float(value)))
    return curves


def _recalls(file: Path) -> dict[str, list[float | None]]:
    rows = _rows(file)
    series = [name for name in (rows[0] if rows else {}) if name not in _NO_SERIES]
    return {name: [float(row[name]) if row[name] else None for row in rows] for name in series}


def _rows(file: Path) -> list[dict[str, str]]:
    if not file.exists():
        return []
    with file.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))
