"""Finished runs beside the published numbers."""

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from deitlt.errors import ConfigError
from deitlt.reports.data_sets import data_title
from deitlt.reports.matching import benchmark_of, changes_that_count, published_rows
from deitlt.reports.published import CITATION, PUBLISHED, ROWS, Benchmark
from deitlt.reports.rows import PROTOCOLS, AccuracyRow, accuracy_rows
from deitlt.reports.runs import Run
from deitlt.reports.scores import Score, markdown_row, score_of, score_text

_SCORES: Final = ("all", "head", "mid", "tail")
_PARTS: Final = ("teacher", "student", "baseline")  # the trained weights; the table has no moving averages
_DECISIVE: Final = ("", "cls", "avg")  # of a part's tokens: the later one, where it is there
_HEADER: Final = ("", "score", "published", "ours", "difference", "seeds", "protocol")
_BENCHMARKS: Final = {benchmark.title: benchmark for benchmark in PUBLISHED}


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
        """What the answers of one mean share. Data of one name, but with other classes, are other data."""
        metrics = self.run.metrics
        data = self.benchmark or (*(metrics.get("class_names") or ()), *(metrics.get("counts") or ()))
        return self.title, data, self.row, self.run.protocol, changes_that_count(self.run)

    @property
    def seed(self) -> int | None:
        """Equal folder names alone do not make one experiment, so without its name no seed is another."""
        return self.run.seed if self.run.metrics.get("experiment") else None


@dataclass(frozen=True)
class PaperRow:
    """One network over its seeds, beside its published number.

    title: data set and tail. row: the published row's name, or the run's. folder: where it was trained, if its name
    alone would not tell. scores: 'all', 'head', 'mid', 'tail' -> ours; what was not measured is absent.
    published: the same, in percent; empty where the paper has no such number. seeds: number of runs. changes:
    what the runs changed in their recipe.
    """

    title: str
    row: str
    folder: str
    scores: Mapping[str, Score]
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
    same = Counter((answer.key, answer.seed) for answer in answers)
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
        lines += ["", f"## {title}", "", *_table([row for row in rows if row.title == title], changed)]
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
        scores={column: score for column in _SCORES if (score := score_of(column, accuracies))},
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


def _table(rows: Sequence[PaperRow], changed: Sequence[tuple[str, ...]]) -> list[str]:
    """All scores that were published for these data; of other data, all that were measured."""
    benchmark = _BENCHMARKS.get(rows[0].title)
    wanted = {s for scores in PUBLISHED[benchmark].values() for s in scores} if benchmark else set(_SCORES)
    lines = [markdown_row(_HEADER), markdown_row(["---", "---", *["---:"] * 4, "---"])]
    for row in rows:
        recipe = f"changed recipe {changed.index(row.changes) + 1}" if row.changes else ""
        mark = (recipe if benchmark else "") or "no published number"
        label = row.label if benchmark or not recipe else f"{row.label}, {recipe}"
        for score in (s for s in _SCORES if s in wanted and s in row.scores):
            ours, theirs = row.scores[score], row.published.get(score)
            published = mark if theirs is None else f"{theirs:.1f}"
            difference = "-" if theirs is None else f"{ours.mean - theirs:+.1f}"
            how = (str(row.seeds), row.protocol or "not recorded")
            lines.append(markdown_row([label, score, published, score_text(ours), difference, *how]))
    return lines


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
