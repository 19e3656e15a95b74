"""Finished runs: all that their folders say, how they are called in a table, and which of them belong together."""

import csv
import json
import math
import os
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from statistics import mean
from typing import Any, Final, NamedTuple, TypeAlias

import yaml

from deitlt.errors import ConfigError

Plain: TypeAlias = Mapping[str, Any]
Points: TypeAlias = Sequence[tuple[float, float]]  # such as (epochs that were finished, value)
STAGES: Final = ("teacher", "student", "baseline")
GROUPS: Final = ("all", "head", "mid", "tail")
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
    "patches": "patches",
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
_SPLITS: Final = {"train": "training ", "val": "validation ", "test": "test "}
# What an analysis finds in the images that it names; the teacher is asked about others, sharpness counts its own.
_OF_IMAGES: Final = ("attention_distance", "rank", "diversity", "winners", "calibration")


class Sample(NamedTuple):
    """Of which images a number tells. split: 'train', 'val' or 'test'; images: how many. None is what nobody wrote."""

    split: str | None
    images: int | None

    def __str__(self) -> str:
        """'500 test images'."""
        images = f"{self.images:,} " if self.images else ""
        noun = "image" if self.images == 1 else "images"
        return f"{images}{_SPLITS.get(str(self.split), '')}{noun}" if images or self.split in _SPLITS else "its images"


def on_images(samples: Collection[Sample | None]) -> str:
    """' on 200 training images', where that is what all of them are; else, and where nobody knows, ''."""
    known = set(samples)
    (sample,) = known if len(known) == 1 else (None,)
    return f" on {sample}" if sample is not None and sample.images else ""


def stages_of(metrics: Plain) -> tuple[str, ...]:
    """The stages that a run may have: ours, and those of its own that metrics.json tells the cost of."""
    return tuple(dict.fromkeys((*STAGES, *(metrics.get("cost") or {}))))


def part_labels(metrics: Plain) -> dict[str, str]:
    """Part of metrics.json, such as 'student_ema' -> its name in tables, stages of the user's own behind ours."""
    own = [stage for stage in stages_of(metrics) if stage not in STAGES]
    return PARTS | {f"{stage}{ema}": f"{stage}{said}" for stage in own for ema, said in (("", ""), ("_ema", " (EMA)"))}


@dataclass(frozen=True)
class Run:
    """A finished run's folder; what it did not write is empty, and what it wrote is read when it is asked for.

    experiment: its name in a table, the folder's where it was composed without one. name: the same with what sets it
    apart from other runs of a table, equal for the seeds of one experiment.
    """

    folder: Path
    experiment: str
    seed: int | None
    metrics: dict[str, Any]
    name: str = ""

    @property
    def stage_names(self) -> tuple[str, ...]:
        """Of all stages that it may have."""
        return stages_of(self.metrics)

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

    @property
    def distils(self) -> bool:
        """Whether the run's student has a DIST token."""
        return "dist" in (self.metrics.get("student") or {})

    @cached_property
    def config(self) -> Plain:
        """What config.yaml says."""
        return _content(self.folder / "config.yaml")

    @cached_property
    def stages(self) -> dict[str, Plain]:
        """Stage -> its stage.yaml; of a teacher that was given, the one beside its checkpoint, if it is there."""
        folders = {stage: [self.folder / stage] for stage in self.stage_names}
        if (given := dig(self.config, "teacher", "checkpoint")) is not None:  # a run's folder, a stage's, a file in it
            folders["teacher"] += [Path(given) / "teacher", Path(given), Path(given).parent]
        found = {stage: [_content(folder / "stage.yaml") for folder in places] for stage, places in folders.items()}
        return {stage: known[0] for stage, contents in found.items() if (known := [c for c in contents if c])}

    @cached_property
    def curves(self) -> dict[str, dict[str, Points]]:
        """Stage -> column of its metrics.csv -> points."""
        return {stage: _curves(self.folder / stage / "metrics.csv") for stage in self.stage_names}

    @cached_property
    def recalls(self) -> dict[str, list[float | None]]:
        """Series of per_class.csv -> [C] percent, None where the class has no test image."""
        rows = _rows(self.folder / "per_class.csv")
        series = [name for name in (rows[0] if rows else {}) if name not in ("class", "group", "train_images")]
        return {name: [float(row[name]) if row[name] else None for row in rows] for name in series}

    @cached_property
    def history(self) -> dict[str, list[Plain]]:
        """Stage -> its analyses while training, by epoch."""
        files = {stage: sorted((self.folder / stage).glob("analysis/epoch_*.json")) for stage in self.stage_names}
        return {stage: [a for a in map(_content, found) if "epoch" in a] for stage, found in files.items()}

    @cached_property
    def measured(self) -> dict[str, list[Plain]]:
        """The same with analysis.json at the end."""
        return {
            stage: [*self.history[stage], _content(self.folder / stage / "analysis.json")] for stage in self.stage_names
        }

    @cached_property
    def analyses(self) -> dict[str, dict[str, Any]]:
        """Stage -> each part of its analyses as it was measured last; stages without one are absent."""
        merged = {stage: {k: v for analysis in found for k, v in analysis.items()}
                  for stage, found in self.measured.items()}  # fmt: skip
        return {stage: analysis for stage, analysis in merged.items() if analysis}

    def recipe(self, stage: str) -> Plain:
        """With what a stage was trained; empty where nobody wrote it down."""
        return dig(self.stages, stage, "recipe") or {}

    def accuracy(self, part: str, token: str, group: str) -> float | None:
        """Percent of one token of the trained weights, of a teacher with token ''; a ViT with CLS alone has no AVG."""
        return number_in(self.metrics, part, *([token] if token else []), group)

    def number(self, stage: str, *keys: str) -> float | None:
        """A number of a stage's analyses, as it was measured last."""
        return number_in(self.analyses, stage, *keys)

    def newest(self, stage: str, part: str) -> Plain:
        """The analysis that measured a part last; empty where none did."""
        return next((a for a in reversed(self.measured.get(stage, [])) if part in a), {})

    def sample(self, stage: str, part: str) -> Sample | None:
        """Of which images a part of a stage's analysis tells; None where it was not measured."""
        return sample_of(self.newest(stage, part), part)

    def samples_by_epoch(self, stage: str, part: str) -> list[Sample]:
        """Of which images a part tells in the analyses while training, one after another."""
        return [sample for analysis in self.history[stage] if (sample := sample_of(analysis, part)) is not None]

    def by_block(self, stage: str, measure: str, token: str) -> Points:
        """One value a block: of 'attention_distance' the mean of the heads, in pixels, else of the tokens' rank.

        measure: 'attention_distance', 'components', 'effective'. Empty where it was not measured.
        """
        analysis = self.analyses.get(stage)
        if measure == "attention_distance":
            return by_block([mean(heads) for heads in dig(analysis, measure, token) or () if heads])
        return by_block(dig(analysis, "rank", token, measure) or ())

    def cosine_by_block(self) -> Points:
        """1 - cosine of the student's CLS and DIST."""
        return by_block(dig(self.analyses, "student", "diversity", "per_block") or ())

    def disagreement_by_epoch(self, group: str = "all") -> Points:
        """(epoch, percent of images that CLS and DIST put into different classes), where training looked twice."""
        points = _by_epoch(self.history["student"], "diversity", "disagreement", group)
        return points if len(points) > 1 else []

    def teacher_rank_by_epoch(self, measure: str) -> Points:
        """(epoch, rank of the teacher's features), while training; where nobody looked, of the finished teacher alone.

        measure: 'components' or 'effective'.
        """
        keys = "rank", "features", measure
        return _by_epoch(self.history["teacher"], *keys) or _by_epoch([self.newest("teacher", "rank")], *keys)


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


def name_runs(runs: Sequence[Run]) -> list[Run]:
    """The runs of a table with their names, to which protocol and folder are added where they alone would mislead."""
    mixed = len({run.protocol for run in runs}) > 1
    changed = changed_recipes(runs)
    # What no two runs of a mean may share.
    identities = [(run.experiment, run.protocol, run.known_seed, run.changes) for run in runs]
    same = Counter(identities)
    named = []
    for run, identity in zip(runs, identities, strict=True):
        extra = [run.protocol] if mixed else []
        if run.changes:
            extra.append(f"changed recipe {changed.index(run.changes) + 1}")
        if same[identity] > 1:
            extra.append(os.path.relpath(run.folder, os.path.commonpath([r.folder for r in runs])))
        named.append(replace(run, name=f"{run.experiment} ({', '.join(extra)})" if extra else run.experiment))
    return named


def changed_recipes(runs: Sequence[Run]) -> list[tuple[str, ...]]:
    """The different sets of changes among the runs, numbered from 1 in the table and told under it."""
    return list(dict.fromkeys(run.changes for run in runs if run.changes))


def protocols_in_words(protocols: Sequence[str | None]) -> str:
    """Which epochs the numbers are of, in words, each protocol once."""
    return "; ".join(
        PROTOCOLS.get(protocol or "", f"protocol {protocol}" if protocol else "of the checkpoint that was named")
        for protocol in dict.fromkeys(protocols)
    )


def epochs_in_words(epochs: float) -> str:
    """'1 epoch', '150 epochs'."""
    return f"{epochs:g} epoch{'' if epochs == 1 else 's'}"


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


def accuracy_rows(metrics: Plain) -> list[AccuracyRow]:
    """The accuracies of one run under the names that all tables use, teacher first; what was not trained is absent.

    Args:
        metrics: what metrics.json holds. A part is a dict of accuracies, or of tokens that hold one each.
    """
    rows = []
    for part, label in part_labels(metrics).items():
        content = metrics.get(part) or {}
        tokens = {"": content} if "all" in content else {t: content[t] for t in TOKENS if t in content}
        for token, accuracy in tokens.items():
            # A plain ViT has one token: its name would only suggest that there is another.
            named = token and not (part.startswith("baseline") and len(tokens) == 1)
            known = {name: float(value) for name, value in accuracy.items() if value is not None}
            rows.append(AccuracyRow(part, token, f"{label} {TOKENS[token]}" if named else label, known))
    return rows


def network_in_words(recipe: Plain) -> str:
    """'deit_tiny_patch16_224 (depth 6, width 64, patches of 4 pixels, images of 32)' of a stage's recipe."""
    model = recipe.get("model") or {}
    sizes = {
        "depth": "depth {}",
        "width": "width {}",
        "patch_size": "patches of {} pixels",
        "image_size": "images of {}",
    }
    parts = [words.format(model[key]) for key, words in sizes.items() if model.get(key)]
    parts += ["behind a stem of convolutions"] if model.get("stem") == "conv" else []
    name = model.get("name") or str(model.get("_target_")).rpartition(".")[2]  # one of the user's own
    return f"{name} ({', '.join(parts)})" if parts else str(name)


def in_group_order(names: Sequence[str]) -> list[str]:
    """'all', then head, mid and tail, then any other group in its own order, each once."""
    return [*(group for group in GROUPS if group in names), *(n for n in dict.fromkeys(names) if n not in GROUPS)]


def by_block(values: Sequence[float]) -> Points:
    """Blocks counted from 1 beside their values."""
    return [(float(block), float(value)) for block, value in enumerate(values, start=1)]


def dig(content: Any, *keys: str) -> Any:
    """What lies under the keys, one inside the other; None where one of them is missing."""
    for key in keys:
        content = content.get(key) if isinstance(content, Mapping) else None
    return content


def number_in(content: Any, *keys: str) -> float | None:
    """The number that lies under the keys; None where there is none."""
    value = dig(content, *keys)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def sample_of(analysis: Plain, part: str) -> Sample | None:
    """Of which images a part of an analysis tells; None of what was measured on none of those that it names."""
    if part == "sharpness":
        whole = dig(analysis, part, "all")
        return Sample("train", whole.get("images")) if whole else None
    known = part in _OF_IMAGES and part in analysis
    return Sample(analysis.get("split"), analysis.get("images")) if known else None


def _by_epoch(analyses: Sequence[Plain], *keys: str) -> Points:
    found = [(number_in(analysis, "epoch"), number_in(analysis, *keys)) for analysis in analyses]
    return [(epoch, value) for epoch, value in found if epoch is not None and value is not None]


def _is_evaluation(metrics: Plain) -> bool:
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


def _content(file: Path) -> Plain:
    """What a JSON or YAML file holds; nothing where there is no such file."""
    if not file.is_file():
        return {}
    text, kind = file.read_text(encoding="utf-8"), file.suffix[1:].upper()
    try:
        return dict((json.loads(text) if kind == "JSON" else yaml.safe_load(text)) or {})
    except (yaml.YAMLError, TypeError, ValueError) as error:
        where = str(error).splitlines()[0]
        what = "delete it, or type deitlt analyze again" if kind == "JSON" else "leave that run out of the report"
        raise ConfigError(f"{file} is not readable {kind} ({where}); {what}.") from error


def _curves(file: Path) -> dict[str, Points]:
    """Each column of metrics.csv with what was logged; a row of epoch 0 stands where one epoch is finished."""
    rows = [row for row in _rows(file) if row.get("epoch")]
    last = max((float(row["epoch"]) for row in rows if row.get("train/loss")), default=float("inf")) + 1
    curves: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        for column, value in row.items():
            if value and column not in ("epoch", "step") and math.isfinite(float(value)):
                # The last evaluation is logged when no epoch is left.
                curves.setdefault(column, []).append((min(float(row["epoch"]) + 1, last), float(value)))
    return dict(curves)


def _rows(file: Path) -> list[dict[str, str]]:
    if not file.exists():
        return []
    with file.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))
