"""The numbers that DeiT-LT's paper publishes, which of them a finished run stands beside, and the table of both.

Rangwani, Mondal, Mishra, Asokan, Babu: "DeiT-LT: Distillation Strikes Back for Vision Transformer Training on
Long-Tailed Datasets", CVPR 2024.
"""

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from deitlt.errors import ConfigError
from deitlt.reports.runs import PROTOCOLS, AccuracyRow, Run, accuracy_rows, data_key, data_title
from deitlt.reports.tables import GROUPS, Cell, Row, Table, markdown, score_cell

CITATION: Final = "Rangwani et al., DeiT-LT, CVPR 2024"


class Benchmark(NamedTuple):
    """A data set and its tail. data: its name in a configuration. imbalance: n_max / n_min; None: as it is."""

    data: str
    imbalance: int | None
    title: str


CIFAR10_100: Final = Benchmark("cifar10", 100, "CIFAR-10-LT, imbalance 100")
CIFAR10_50: Final = Benchmark("cifar10", 50, "CIFAR-10-LT, imbalance 50")
CIFAR100_100: Final = Benchmark("cifar100", 100, "CIFAR-100-LT, imbalance 100")
CIFAR100_50: Final = Benchmark("cifar100", 50, "CIFAR-100-LT, imbalance 50")
IMAGENET_LT: Final = Benchmark("imagenet_lt", None, "ImageNet-LT")
INAT18: Final = Benchmark("inat18", None, "iNaturalist-2018")

TEACHER_LDAM: Final = "teacher LDAM+DRW+SAM"
TEACHER_PACO: Final = "teacher PaCo+SAM"
VIT: Final = "ViT"
DEIT: Final = "DeiT"
DEIT3: Final = "DeiT-III"
DEIT_LT_LDAM: Final = "DeiT-LT, LDAM teacher"
DEIT_LT_PACO: Final = "DeiT-LT, PaCo teacher"
ROWS: Final = (TEACHER_LDAM, TEACHER_PACO, VIT, DEIT, DEIT3, DEIT_LT_LDAM, DEIT_LT_PACO)

Scores = Mapping[str, float]  # 'all', 'head', 'mid', 'tail' -> percent; a group that is not published is absent

_CIFAR: Final = {  # top-1 of all test images, in the order of `ROWS`
    CIFAR10_100: (81.9, 86.8, 62.6, 70.2, 59.1, 84.8, 87.5),
    CIFAR10_50: (84.8, 88.6, 70.1, 77.5, 68.2, 87.5, 89.8),
    CIFAR100_100: (45.4, 52.8, 35.0, 31.3, 38.1, 52.0, 55.6),
    CIFAR100_50: (49.4, 56.6, 39.0, 39.1, 44.1, 54.1, 60.5),
}
_LARGE: Final = {  # all, head, mid, tail; the paper has no DeiT on these
    IMAGENET_LT: {
        TEACHER_LDAM: (53.1, 62.0, 52.1, 32.8),
        TEACHER_PACO: (57.5, 62.1, 58.8, 39.3),
        VIT: (37.5, 56.9, 30.4, 10.3),
        DEIT3: (48.4, 70.4, 40.9, 12.8),
        DEIT_LT_LDAM: (55.6, 65.2, 54.0, 37.1),
        DEIT_LT_PACO: (59.1, 66.6, 58.3, 40.0),
    },
    INAT18: {
        TEACHER_LDAM: (70.1, 64.1, 70.5, 71.2),
        TEACHER_PACO: (73.4, 66.3, 73.6, 75.2),
        VIT: (54.2, 64.3, 53.9, 52.1),
        DEIT3: (61.0, 72.9, 62.8, 55.8),
        DEIT_LT_LDAM: (72.9, 69.0, 73.3, 73.3),
        DEIT_LT_PACO: (75.1, 70.3, 75.2, 76.2),
    },
}


def _published() -> dict[Benchmark, Mapping[str, Scores]]:
    small: dict[Benchmark, dict[str, Scores]] = {
        benchmark: {row: MappingProxyType({"all": value}) for row, value in zip(ROWS, values, strict=True)}
        for benchmark, values in _CIFAR.items()
    }
    large: dict[Benchmark, dict[str, Scores]] = {
        benchmark: {row: MappingProxyType(dict(zip(GROUPS, values, strict=True))) for row, values in rows.items()}
        for benchmark, rows in _LARGE.items()
    }
    return {benchmark: MappingProxyType(rows) for benchmark, rows in (small | large).items()}


# Benchmark -> row -> top-1 accuracies in percent.
PUBLISHED: Final[Mapping[Benchmark, Mapping[str, Scores]]] = MappingProxyType(_published())

# What follows the data set in an experiment's name -> row of each part of its metrics.json.
_LDAM: Final = {"teacher": TEACHER_LDAM, "student": DEIT_LT_LDAM, "baseline": VIT}
_PACO: Final = {"teacher": TEACHER_PACO, "student": DEIT_LT_PACO, "baseline": VIT}
_VIT: Final = {"student": VIT}
_DEIT: Final = {"student": DEIT}
_RECIPES: Final[dict[str, dict[str, str]]] = {
    **{"": _LDAM, "ldam": _LDAM, "paco": _PACO},
    **{"vit": _VIT, "deit": _DEIT, "deit3": {"student": DEIT3}},
}
# A method changes an experiment: (the experiment, the method) -> rows. Other methods are in no table.
_METHODS: Final[dict[tuple[str, str], dict[str, str]]] = {
    **{("", "vit"): _VIT, ("paco", "vit"): _VIT, ("vit", "vit"): _VIT},
    **{("", "deit"): _DEIT, ("deit", "deit"): _DEIT},
}
_OWN_METHOD: Final = "deit_lt"  # the recipe as it is
# Changes after which a number still belongs beside the published one: the table has a column for either tail and one
# for the protocol; the rest is where files lie, and how a recipe's images per update are shared among devices.
_FREE: Final = (
    *("data.imbalance_factor ", "data.train_list ", "data.test_list ", "data.on_broken ", "data.exclude ", "protocol "),
    *("teacher.batch_size ", "student.batch_size ", "teacher.devices ", "student.devices ", "teacher.checkpoint "),
)
_PARTS: Final = ("teacher", "student", "baseline")  # the trained weights; the table has no moving averages
_DECISIVE: Final = ("", "cls", "avg")  # of a part's tokens: the later one, where it is there
_HEADER: Final = ("", "score", "published", "ours", "difference", "seeds", "protocol")
_BENCHMARKS: Final = {benchmark.title: benchmark for benchmark in PUBLISHED}


def benchmark_of(metrics: Mapping[str, Any]) -> Benchmark | None:
    """The published data set and tail that a run was trained on; None for any other."""
    factor = metrics.get("imbalance_factor")
    imbalance = round(1 / factor) if factor else None
    return next((b for b in PUBLISHED if (b.data, b.imbalance) == (metrics.get("data"), imbalance)), None)


def changes_that_count(run: Run) -> tuple[str, ...]:
    """What the run changed in its recipe, but for what leaves its numbers comparable; any, where no table has them."""
    known = benchmark_of(run.metrics) is not None
    return tuple(change for change in run.changes if not (known and change.startswith(_FREE)))


def published_rows(run: Run) -> dict[str, str]:
    """Part of metrics.json -> row of the published table; a part without a row is absent.

    A run that changed its recipe has none, nor one of other data, of a method that the paper does not have, or
    of no experiment.
    """
    benchmark, experiment = benchmark_of(run.metrics), str(run.metrics.get("experiment") or "")
    data, suffix = _parts(experiment)
    if benchmark is None or data != benchmark.data.removesuffix("_lt"):
        return {}
    if suffix not in _RECIPES or changes_that_count(run):
        return {}
    method = run.metrics.get("method") or _OWN_METHOD
    rows = _RECIPES[suffix] if method == _OWN_METHOD else _METHODS.get((suffix, method), {})
    return {part: row for part, row in rows.items() if row in PUBLISHED[benchmark]}


def _parts(experiment: str) -> tuple[str, str]:
    """'cifar10_lt_if50_paco' and 'teacher/cifar10_paco_if100' -> 'cifar10', 'paco'."""
    name = re.sub(r"_lt(?=_|$)|_if\d+", "", experiment.removeprefix("teacher/"))
    data, _, suffix = name.partition("_")
    return data, suffix


@dataclass(frozen=True)
class _Answer:
    """One network of one run. published: whether `row` is a published row of `benchmark`."""

    run: Run
    benchmark: Benchmark | None
    title: str
    row: str
    published: bool
    accuracy: Mapping[str, float]

    @property
    def key(self) -> tuple[object, ...]:
        """What the answers of one mean share."""
        return (
            self.title,
            self.benchmark or data_key(self.run.metrics),
            self.row,
            self.run.protocol,
            changes_that_count(self.run),
        )


@dataclass(frozen=True)
class PaperRow:
    """One network over its seeds, beside its published number.

    title: data set and tail. row: the published row's name, or the run's. folder: where it was trained, if its name
    alone would not tell. scores: 'all', 'head', 'mid', 'tail' -> ours, one a seed; what was not measured is absent.
    published: the same, in percent; empty where the paper has no such number. seeds: number of runs. changes:
    what the runs changed in their recipe.
    """

    title: str
    row: str
    folder: str
    scores: Mapping[str, Sequence[float]]
    published: Mapping[str, float]
    seeds: int
    protocol: str
    changes: tuple[str, ...]

    @property
    def label(self) -> str:
        """Its name in the table."""
        return f"{self.row} ({self.folder})" if self.folder else self.row


def paper_rows(runs: Sequence[Run]) -> list[PaperRow]:
    """A row for each network over its seeds, published benchmarks and their rows first.

    The same seed twice is no spread over seeds: such runs get rows of their own, named by their folders.

    Raises:
        ConfigError: if a run measured nothing.
    """
    answers = [answer for run in runs for answer in _answers(run)]
    same = Counter((answer.key, answer.run.known_seed) for answer in answers)
    twice = {key for (key, _), count in same.items() if count > 1}
    gathered: dict[tuple[object, ...], list[_Answer]] = {}
    for answer in answers:
        folder = answer.run.folder if answer.key in twice else None
        gathered.setdefault((*answer.key, folder), []).append(answer)
    root = os.path.commonpath([run.folder for run in runs])
    rows = [
        _paper_row(found, os.path.relpath(str(key[-1]), root) if key[-1] else "") for key, found in gathered.items()
    ]
    return sorted(rows, key=_place)


def paper_markdown(runs: Sequence[Run]) -> str:
    """A Markdown table for each data set and tail, what was changed, and the published cells without a run.

    Raises:
        ConfigError: as `paper_rows`.
    """
    rows = paper_rows(runs)
    changed = list(dict.fromkeys(row.changes for row in rows if row.changes))
    lines = ["# Finished runs beside the published numbers"]
    for title in dict.fromkeys(row.title for row in rows):
        lines += ["", f"## {title}", "", *markdown(_table([row for row in rows if row.title == title], changed))]
    lines += ["", *_notes(rows)]
    if changed:
        lines += ["", *(f"- changed recipe {i}: {'; '.join(c)}" for i, c in enumerate(changed, start=1))]
    return "\n".join([*lines, "", *_missing(rows), ""])


def _answers(run: Run) -> Iterator[_Answer]:
    """What the run's networks answer with: AVG, or the only token there is."""
    benchmark, published = benchmark_of(run.metrics), published_rows(run)
    decisive: dict[str, AccuracyRow] = {}
    for row in sorted(accuracy_rows(run.metrics), key=lambda row: row.token == "avg"):
        if row.part in _PARTS and row.token in _DECISIVE:
            decisive[row.part] = row
    if not decisive:
        raise ConfigError(f"{run.folder} holds no accuracy of a teacher or student; train that run, or leave it out.")
    for part, found in decisive.items():
        named = published.get(part) or f"{run.experiment}, {found.label}"
        title = benchmark.title if benchmark else data_title(run.metrics)
        yield _Answer(run, benchmark, title, named, part in published, found.accuracy)


def _paper_row(answers: Sequence[_Answer], folder: str) -> PaperRow:
    first = answers[0]
    accuracies = [answer.accuracy for answer in answers]
    return PaperRow(
        title=first.title,
        row=first.row,
        folder=folder,
        scores={g: found for g in GROUPS if (found := [a[g] for a in accuracies if g in a])},
        published=PUBLISHED[first.benchmark][first.row] if first.benchmark and first.published else {},
        seeds=len(answers),
        protocol=first.run.protocol,
        changes=changes_that_count(first.run),
    )


def _place(row: PaperRow) -> tuple[int, str, int]:
    """Published benchmarks in the paper's order, then other data; the same for the rows."""
    titles = list(_BENCHMARKS)
    place = ROWS.index(row.row) if row.published else len(ROWS)
    return titles.index(row.title) if row.title in titles else len(titles), row.title, place


def _table(rows: Sequence[PaperRow], changed: Sequence[tuple[str, ...]]) -> Table:
    """All scores that were published for these data; of other data, all that were measured."""
    benchmark = _BENCHMARKS.get(rows[0].title)
    wanted = {s for scores in PUBLISHED[benchmark].values() for s in scores} if benchmark else set(GROUPS)
    lines = []
    for row in rows:
        recipe = f"changed recipe {changed.index(row.changes) + 1}" if row.changes else ""
        mark = (recipe if benchmark else "") or "no published number"
        label = row.label if benchmark or not recipe else f"{row.label}, {recipe}"
        for score in (s for s in GROUPS if s in wanted and s in row.scores):
            ours, theirs = row.scores[score], row.published.get(score)
            published = Cell(mark if theirs is None else f"{theirs:.1f}")
            difference = Cell() if theirs is None else Cell(f"{fmean(ours) - theirs:+.1f}")
            how = Cell(str(row.seeds)), Cell(row.protocol or "not recorded")
            lines.append(Row(label, [Cell(score), published, score_cell(ours), difference, *how]))
    return Table(_HEADER, lines, left=("score", "protocol"))


def _notes(rows: Sequence[PaperRow]) -> list[str]:
    protocols = [f"{name} = {PROTOCOLS[name]}" for name in PROTOCOLS if name in {row.protocol for row in rows}]
    return [
        "Top-1 accuracy in percent: of a student AVG, the mean of its tokens' logits (a ViT has CLS alone), trained "
        "weights; mean ± sample standard deviation over seeds.",
        f"Published: {CITATION}, whose code reports the best epoch on the TEST set. "
        f"Protocols of ours: {'; '.join(protocols) or 'not recorded'}.",
    ]


def _missing(rows: Sequence[PaperRow]) -> list[str]:
    """Which published cells no run stands beside."""
    lines = []
    for benchmark, published in PUBLISHED.items():
        found = {row.row for row in rows if row.title == benchmark.title and row.published}
        absent = [name for name in published if name not in found]
        if absent:
            lines.append(f"- {benchmark.title}: {'; '.join(absent)}")
    return ["Published, and without a run here:", "", *lines] if lines else ["Every published number has a run here."]
