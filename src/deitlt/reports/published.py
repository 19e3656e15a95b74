"""The numbers that DeiT-LT's paper publishes, which of them a finished run stands beside, and the table of both.

Rangwani, Mondal, Mishra, Asokan, Babu: "DeiT-LT: Distillation Strikes Back for Vision Transformer Training on
Long-Tailed Datasets", CVPR 2024.
"""

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Final, NamedTuple

import yaml

from deitlt.reports.matching import is_taught, recipe_of
from deitlt.reports.runs import GROUPS, PROTOCOLS, Plain, Run, accuracy_rows
from deitlt.reports.tables import Cell, Row, Table, data_key, data_title, markdown, score_cell

CITATION: Final = "Rangwani et al., DeiT-LT, CVPR 2024"


class Benchmark(NamedTuple):
    """A data set and its tail. data: its name in a configuration. imbalance: n_max / n_min; None: as it is."""

    data: str
    imbalance: int | None
    title: str


# Benchmark -> row -> 'all', 'head', 'mid', 'tail' -> top-1 accuracy in percent; what is not published is absent.
PUBLISHED: Final[Mapping[Benchmark, Mapping[str, Mapping[str, float]]]] = {
    Benchmark(known["data"], known["imbalance"], known["title"]): {
        row: dict(zip(GROUPS, values, strict=False)) for row, values in known["rows"].items()
    }
    for known in yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
}
ROWS: Final = tuple(next(iter(PUBLISHED.values())))

# What follows the data set in an experiment's name -> row of each part of its metrics.json.
_LDAM: Final = {"teacher": "teacher LDAM+DRW+SAM", "student": "DeiT-LT, LDAM teacher", "baseline": "ViT"}
_PACO: Final = {"teacher": "teacher PaCo+SAM", "student": "DeiT-LT, PaCo teacher", "baseline": "ViT"}
_VIT: Final = {"student": "ViT"}
_DEIT: Final = {"student": "DeiT"}
_DEIT3: Final = {"student": "DeiT-III"}
_RECIPES: Final[dict[str, dict[str, str]]] = {
    **{"": _LDAM, "ldam": _LDAM, "paco": _PACO},
    **{"vit": _VIT, "deit": _DEIT, "deit3": _DEIT3},
}
# A method changes an experiment: (the experiment, the method) -> rows. Other methods are in no table.
_METHODS: Final[dict[tuple[str, str], dict[str, str]]] = {
    **{("", "vit"): _VIT, ("paco", "vit"): _VIT, ("vit", "vit"): _VIT},
    **{("", "deit"): _DEIT, ("deit", "deit"): _DEIT},
    **{("", "deit3"): _DEIT3, ("paco", "deit3"): _DEIT3, ("deit3", "deit3"): _DEIT3},
}
_OWN_METHOD: Final = "deit_lt"  # the recipe as it is
# Changes after which a number still belongs beside the published one: the table has a column for either tail and one
# for the protocol; the rest is where files lie, and how a recipe's images per update are shared among devices.
_FREE: Final = (
    *("data.imbalance_factor ", "data.train_list ", "data.test_list ", "data.val_list ", "data.on_broken "),
    *("data.exclude ", "protocol ", "teacher.batch_size ", "student.batch_size ", "teacher.checkpoint "),
    "teacher: images a device ",
)
_PARTS: Final = ("teacher", "student", "baseline")  # the trained weights; the table has no moving averages
_HEADER: Final = ("", "score", "published", "ours", "difference", "seeds", "protocol")


def benchmark_of(metrics: Plain) -> Benchmark | None:
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
    # 'cifar10_lt_if50_paco' and 'teacher/cifar10_paco_if100' are recipes 'paco' of 'cifar10'
    name = re.sub(r"_lt(?=_|$)|_if\d+", "", experiment.removeprefix("teacher/"))
    data, _, suffix = name.partition("_")
    if benchmark is None or data != benchmark.data.removesuffix("_lt"):
        return {}
    if suffix not in _RECIPES or changes_that_count(run):
        return {}
    method = run.metrics.get("method") or _OWN_METHOD
    rows = _RECIPES[suffix] if method == _OWN_METHOD else _METHODS.get((suffix, method), {})
    return {part: row for part, row in rows.items() if row in PUBLISHED[benchmark]}


@dataclass(frozen=True)
class PaperRow:
    """One network of one experiment, whose seeds make a mean.

    benchmark: None of other data. title: data set and tail. name: the published row's, or the run's. published: whether
    the paper has it. changes: what the runs changed in their recipe. data: tells data of one name apart. folder: where
    it was trained, if the rest would not tell, for the same seed twice is no spread over seeds. recipe: with what it
    and its teacher were trained, or the experiment's name where nobody wrote it down. experiment: its name, where
    another recipe has the same row.
    """

    benchmark: Benchmark | None
    title: str
    name: str
    published: bool
    protocol: str
    changes: tuple[str, ...]
    data: tuple[object, ...]
    folder: str = ""
    recipe: tuple[tuple[str, str], ...] = ()
    experiment: str = ""

    @property
    def scores(self) -> Mapping[str, float]:
        """What the paper says; empty where it has no such number."""
        return PUBLISHED[self.benchmark][self.name] if self.benchmark and self.published else {}


def paper_rows(runs: Sequence[Run]) -> dict[PaperRow, list[Mapping[str, float]]]:
    """Each network -> its accuracies, one a seed; published benchmarks and their rows first, in the paper's order."""
    found = [(row, run, accuracy) for run in runs for row, accuracy in _answers(run)]
    same = Counter((row, run.known_seed) for row, run, _ in found)
    twice = {row for (row, _), count in same.items() if count > 1}
    root = os.path.commonpath([run.folder for run in runs])
    recipes = Counter(replace(row, recipe=()) for row in dict.fromkeys(row for row, _, _ in found))
    gathered: dict[PaperRow, list[Mapping[str, float]]] = {}
    for row, run, accuracy in found:
        own = replace(row, folder=os.path.relpath(run.folder, root)) if row in twice else row
        if recipes[replace(row, recipe=())] > 1:
            own = replace(own, experiment=run.experiment)
        gathered.setdefault(own, []).append(accuracy)
    return dict(sorted(gathered.items(), key=lambda item: _place(item[0])))


def _answers(run: Run) -> Iterator[tuple[PaperRow, Mapping[str, float]]]:
    """What the run's networks answer with: AVG, or the only token there is."""
    benchmark, names, changes = benchmark_of(run.metrics), published_rows(run), changes_that_count(run)
    title = benchmark.title if benchmark else data_title(run.metrics)
    data = () if benchmark else data_key(run.metrics)
    rows = accuracy_rows(run.metrics)
    decisive = {row.part: row for token in ("", "cls", "avg") for row in rows if row.token == token}
    for part, row in decisive.items():
        if part in _PARTS:
            name = names.get(part, f"{run.experiment}, {row.label}")
            stages = ("teacher", part) if part == "student" and is_taught(run) else (part,)
            recipe = recipe_of(run, stages) or (("experiment", run.experiment),)
            known = PaperRow(benchmark, title, name, part in names, run.protocol, changes, data, recipe=recipe)
            yield known, row.accuracy


def _place(row: PaperRow) -> tuple[int, str, int]:
    """Published benchmarks in the paper's order, then other data; the same for the rows."""
    place = [*PUBLISHED].index(row.benchmark) if row.benchmark else len(PUBLISHED)
    return place, row.title, ROWS.index(row.name) if row.published else len(ROWS)


def paper_markdown(runs: Sequence[Run]) -> str:
    """A Markdown table for each data set and tail, what was changed, and the published cells without a run."""
    rows = paper_rows(runs)
    changed = list(dict.fromkeys(row.changes for row in rows if row.changes))
    lines = ["# Finished runs beside the published numbers"]
    for title in dict.fromkeys(row.title for row in rows):
        found = {row: accuracies for row, accuracies in rows.items() if row.title == title}
        lines += ["", f"## {title}", "", *markdown(_table(found, changed))]
    protocols = [f"{name} = {words}" for name, words in PROTOCOLS.items() if name in {row.protocol for row in rows}]
    lines += [
        "",
        "Top-1 accuracy in percent: of a student AVG, the mean of its tokens' logits (a ViT has CLS alone), trained "
        "weights; mean ± sample standard deviation over seeds.",
        f"Published: {CITATION}, whose code reports the best epoch on the TEST set. "
        f"Protocols of ours: {'; '.join(protocols) or 'not recorded'}.",
    ]
    if changed:
        lines += ["", *(f"- changed recipe {i}: {'; '.join(c)}" for i, c in enumerate(changed, start=1))]
    there = {(row.benchmark, row.name) for row in rows if row.published}
    absent = {benchmark.title: [name for name in published if (benchmark, name) not in there]
              for benchmark, published in PUBLISHED.items()}  # fmt: skip
    missing = [f"- {title}: {'; '.join(names)}" for title, names in absent.items() if names]
    said = (
        ["Published, and without a run here:", "", *missing] if missing else ["Every published number has a run here."]
    )
    return "\n".join([*lines, "", *said, ""])


def _table(rows: Mapping[PaperRow, Sequence[Mapping[str, float]]], changed: Sequence[tuple[str, ...]]) -> Table:
    """All scores that were published for these data; of other data, all that were measured."""
    benchmark = next(iter(rows)).benchmark
    wanted = {score for scores in PUBLISHED[benchmark].values() for score in scores} if benchmark else set(GROUPS)
    lines = []
    for row, accuracies in rows.items():
        recipe = f"changed recipe {changed.index(row.changes) + 1}" if row.changes else ""
        mark = (recipe if benchmark else "") or "no published number"
        told = ", ".join(word for word in (row.experiment, row.folder) if word)
        label = f"{row.name} ({told})" if told else row.name
        label = label if benchmark or not recipe else f"{label}, {recipe}"
        for score in (score for score in GROUPS if score in wanted):
            ours, theirs = [a[score] for a in accuracies if score in a], row.scores.get(score)
            if ours:
                published = Cell(mark if theirs is None else f"{theirs:.1f}")
                difference = Cell() if theirs is None else Cell(f"{mean(ours) - theirs:+.1f}")
                how = Cell(str(len(accuracies))), Cell(row.protocol or "not recorded")
                lines.append(Row(label, [Cell(score), published, score_cell(ours), difference, *how]))
    return Table(_HEADER, lines, left=("score", "protocol"))
