"""All that a finished run's folder says, the numbers that the paper's claims need of it, and which runs are matched."""

import csv
import json
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import mean
from typing import Any, Final, NamedTuple, TypeAlias

import yaml

from deitlt.errors import ConfigError
from deitlt.reports.runs import Run

Plain: TypeAlias = Mapping[str, Any]
Points: TypeAlias = list[tuple[float, float]]  # (epochs that were finished, value)
STAGES: Final = ("teacher", "student", "baseline")
_NO_SERIES: Final = ("class", "group", "train_images")
_SPLITS: Final = {"train": "training ", "val": "validation ", "test": "test "}
# What an analysis finds in the images that it names; the teacher is asked about others, sharpness counts its own.
_OF_IMAGES: Final = ("attention_distance", "rank", "diversity", "winners", "calibration")
_SHARPNESS: Final = "sharpness"
# Where files lie, and how an update's images are shared among devices: it changes no run's numbers by design.
_ELSEWHERE: Final = (".checkpoint", ".devices", ".batch_size")
_NAMED: Final = 3  # keys that a note names; more are counted


class Sample(NamedTuple):
    """Of which images a number tells. split: 'train', 'val' or 'test'; images: how many. None is what nobody wrote."""

    split: str | None
    images: int | None

    def __str__(self) -> str:
        """'500 test images'."""
        images = f"{self.images:,} " if self.images else ""
        noun = "image" if self.images == 1 else "images"
        return f"{images}{_SPLITS.get(str(self.split), '')}{noun}" if images or self.split in _SPLITS else "its images"


@dataclass(frozen=True)
class RunData:
    """What one run left; what it did not write is empty.

    name: the run's in the tables, equal for the seeds of one experiment. config: config.yaml. curves: stage ->
    column of its metrics.csv -> points. recalls: series of per_class.csv -> [C] percent, None where the class has
    no test image. analyses: stage -> each part of its analysis as it was measured last. samples, epochs: stage -> part
    -> the images that it was measured on, and after how many epochs. history: stage -> its analyses while training, by
    epoch. stages: stage -> its stage.yaml; of a teacher that was given, the one beside its checkpoint, if it is there.
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

    @property
    def distils(self) -> bool:
        """Whether the run's student has a DIST token."""
        return "dist" in (self.metrics.get("student") or {})

    def accuracy(self, part: str, token: str, group: str) -> float | None:
        """Percent of one token of the trained weights, of a teacher with token ''; a ViT with CLS alone has no AVG."""
        return number_in(self.metrics, part, *([token] if token else []), group)

    def sample(self, stage: str, part: str) -> Sample | None:
        """Of which images a part of a stage's analysis tells; None where it was not measured."""
        return (self.samples.get(stage) or {}).get(part)

    def samples_by_epoch(self, stage: str, part: str) -> list[Sample]:
        """Of which images a part tells in the analyses while training, one after another."""
        found = [samples_of(analysis) for analysis in self.history.get(stage) or ()]
        return [samples[part] for samples in found if part in samples]

    def by_block(self, stage: str, measure: str, token: str) -> list[float]:
        """One value a block: of 'attention_distance' the mean of the heads, in pixels, else of the tokens' rank.

        measure: 'attention_distance', 'components', 'effective'. Empty where it was not measured.
        """
        analysis = self.analyses.get(stage) or {}
        if measure == "attention_distance":
            return [mean(heads) for heads in dig(analysis, measure, token) or () if heads]
        return [float(value) for value in dig(analysis, "rank", token, measure) or ()]

    def disagreement_by_epoch(self, group: str = "all") -> Points:
        """(epoch, percent of images that CLS and DIST put into different classes) of the analyses while training."""
        history = self.history.get("student") or ()
        found = [(float(a["epoch"]), number_in(a, "diversity", "disagreement", group)) for a in history]
        return [(epoch, value) for epoch, value in found if value is not None]

    def teacher_rank_by_epoch(self, measure: str) -> Points:
        """(epoch, rank of the teacher's features), while training; where nobody looked, of the finished teacher alone.

        measure: 'components' or 'effective'.
        """
        for analyses in (self.history.get("teacher") or (), (self.analyses.get("teacher") or {},)):
            found = [(analysis.get("epoch"), number_in(analysis, "rank", "features", measure)) for analysis in analyses]
            if points := [(float(at), value) for at, value in found if at is not None and value is not None]:
                return points
        return []


def read_run_data(run: Run, name: str) -> RunData:
    """Everything that the run's folder holds.

    Raises:
        ConfigError: a file is there and cannot be read.
    """
    config = _yaml(run.folder / "config.yaml")
    stages = [stage for stage in STAGES if (run.folder / stage).is_dir()]
    history = {stage: _history(run.folder / stage) for stage in stages}
    measured = {stage: [*history[stage], _json(run.folder / stage / "analysis.json")] for stage in stages}
    found = {stage: _newest(analyses) for stage, analyses in measured.items()}
    return RunData(
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


def number_in(content: Any, *keys: str) -> float | None:
    """The number that lies under the keys; None where there is none."""
    value = dig(content, *keys)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def samples_of(analysis: Plain) -> dict[str, Sample]:
    """Part of an analysis -> its images; what was measured on none of those that it names is absent."""
    own = Sample(analysis.get("split"), analysis.get("images"))
    found = {part: own for part in _OF_IMAGES if part in analysis}
    if whole := (analysis.get(_SHARPNESS) or {}).get("all"):
        found[_SHARPNESS] = Sample("train", whole.get("images"))
    return found


def on_images(samples: Collection[Sample | None]) -> str:
    """' on 200 training images', where that is what all of them are; else, and where nobody knows, ''."""
    known = set(samples)
    (sample,) = known if len(known) == 1 else (None,)
    return f" on {sample}" if sample is not None and sample.images else ""


def unlike(samples: Mapping[str, Collection[Sample]]) -> str:
    """A sentence on what stands beside each other and was measured on different images; '' where it was on the same.

    Args:
        samples: what is compared -> the images of its parts.
    """
    named: dict[Sample, list[str]] = {}
    for name, found in samples.items():
        for sample in dict.fromkeys(found):
            named.setdefault(sample, []).append(name)
    if len(named) < 2:
        return ""
    *few, (most, rest) = sorted(named.items(), key=lambda item: len(item[1]))
    said = [f"{', '.join(names)} on {sample}" for sample, names in few]
    said.append(f"{'the others' if len(rest) > 1 else rest[0]} on {most}")
    return f"Not measured on the same images: {'; '.join(said)}."


def epochs_in_words(epochs: float) -> str:
    """'1 epoch', '150 epochs'."""
    return f"{epochs:g} epoch{'' if epochs == 1 else 's'}"


class Sides(NamedTuple):
    """ours: the runs that have something. theirs: those that have not. note: on what else they differ in, or ''."""

    ours: Sequence[RunData]
    theirs: Sequence[RunData]
    note: str = ""


def matched_runs(ours: Sequence[RunData], theirs: Sequence[RunData], about: Sequence[str]) -> Sides:
    """The runs of one recipe on either side: of the two recipes that differ in the fewest keys, else of the most runs.

    Args:
        ours: runs that have something.
        theirs: runs that have not.
        about: how the keys begin in which they may differ, such as 'teacher.sam.'.
    """
    first, second = (_by_recipe(side, about) for side in (ours, theirs))
    if not first or not second:
        return Sides([], [])
    pairs = list(product(first, second))
    a, b = min(pairs, key=lambda pair: (len(_differing(*pair)), -len(first[pair[0]]) - len(second[pair[1]])))
    return Sides(first[a], second[b], _note(first[a], second[b], _differing(a, b), len(pairs) > 1))


_Recipe: TypeAlias = tuple[tuple[str, str], ...]


def _by_recipe(runs: Sequence[RunData], about: Sequence[str]) -> dict[_Recipe, list[RunData]]:
    found: dict[_Recipe, list[RunData]] = {}
    for run in runs:
        nodes = {stage: dig(run.stages, stage, "recipe") or {} for stage in ("teacher", "student")}
        nodes["data"] = {"sampler": dig(run.stages, "student", "data", "sampler") or {}}
        leaves = {key: str(value) for key, value in _leaves(nodes)
                  if not key.endswith(_ELSEWHERE) and not f"{key}.".startswith(tuple(about))}  # fmt: skip
        found.setdefault(tuple(sorted(leaves.items())), []).append(run)
    return found


def _leaves(node: Plain, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in node.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _differing(first: _Recipe, second: _Recipe) -> list[str]:
    """The keys in which two recipes differ; none where one was not written down. A null node stands for its keys."""
    a, b = dict(first), dict(second)
    keys = [key for key in sorted(a.keys() | b.keys()) if a.get(key) != b.get(key)] if a and b else []
    return [key for key in keys if not any(key.startswith(f"{other}.") for other in keys)]


def _note(ours: Sequence[RunData], theirs: Sequence[RunData], differing: Sequence[str], chosen: bool) -> str:
    """'Compared: digits beside digits vit; they differ in student.drw, too.'"""
    more = f" and {len(differing) - _NAMED} keys more" if len(differing) > _NAMED else ""
    words = f"differ in {', '.join(differing[:_NAMED])}{more}, too" if differing else ""
    if not chosen:
        return f"The runs compared {words}." if words else ""
    names = (", ".join(dict.fromkeys(run.name for run in side)) for side in (ours, theirs))
    return f"Compared: {' beside '.join(names)}{f'; they {words}' if words else ''}."


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


def _newest(analyses: Sequence[Plain]) -> dict[str, Any]:
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
