"""One model of a table, its writers for terminal, Markdown and CSV (templates/ has HTML's), and the tables of runs."""

import csv
import io
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Final

from rich.markup import escape
from rich.table import Table as RichTable

from deitlt.reports.comparison import Interval, compare
from deitlt.reports.runs import (
    GROUPS,
    TOKENS,
    AccuracyRow,
    Plain,
    Run,
    accuracy_rows,
    changed_recipes,
    dig,
    in_group_order,
    name_runs,
    network_in_words,
    number_in,
    part_labels,
    protocols_in_words,
)

NOTHING: Final = "-"
_SAME: Final = 0.05  # percent; a balanced accuracy this near to `all` is the same number twice


@dataclass(frozen=True)
class Cell:
    """A value as text.

    spread: its standard deviation. interval: in brackets. best: of its column. share: in percent, for a meter under it.
    """

    text: str = NOTHING
    spread: str = ""
    best: bool = False
    share: float | None = None
    interval: str = ""

    def __str__(self) -> str:
        return f"{self.text} ± {self.spread}" if self.spread else f"{self.text} {self.interval}".rstrip()


@dataclass(frozen=True)
class Row:
    """One line: its name, a cell for each further column, and the group of lines that it stands in, if any."""

    label: str
    cells: Sequence[Cell]
    group: str = ""

    @property
    def name(self) -> str:
        """Group and label in one, where groups have no line of their own."""
        return f"{self.group}, {self.label}" if self.group else self.label


@dataclass(frozen=True)
class Table:
    """columns: the header, of the rows' labels first. note: what the numbers are. left: columns that hold words."""

    columns: Sequence[str]
    rows: Sequence[Row]
    title: str = ""
    note: str = ""
    left: Collection[str] = ()


def terminal(table: Table) -> RichTable:
    """The table as rich prints it, title above, note below, the best of each column bold."""
    drawn = RichTable(title=escape(table.title), caption=escape(table.note) or None)
    for i, name in enumerate(table.columns):
        words = i == 0 or name in table.left
        drawn.add_column(escape(name), justify="left" if words else "right", overflow="fold" if words else "ellipsis")
    for row in table.rows:
        cells = [f"[bold]{escape(str(cell))}[/bold]" if cell.best else escape(str(cell)) for cell in row.cells]
        drawn.add_row(escape(row.name), *cells)
    return drawn


def markdown(table: Table) -> list[str]:
    """The lines of a Markdown table: header, rule, rows."""
    rule = ["---" if i == 0 or name in table.left else "---:" for i, name in enumerate(table.columns)]
    return [_line(table.columns), _line(rule), *(_line([row.name, *map(str, row.cells)]) for row in table.rows)]


def csv_text(table: Table) -> str:
    """The table as CSV; a cell with nothing in it is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table.columns)
    writer.writerows(
        [row.name, *("" if cell.text == NOTHING else str(cell) for cell in row.cells)] for row in table.rows
    )
    return text.getvalue()


def _line(cells: Iterable[str]) -> str:
    """One line of a Markdown table; a bar in a cell stays a bar."""
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def score_cell(values: Sequence[float]) -> Cell:
    """Mean over seeds in percent, and the sample standard deviation where there are several; nothing where none is."""
    if not values:
        return Cell()
    spread = f"{stdev(values):.1f}" if len(values) > 1 else ""
    return Cell(f"{mean(values):.1f}", spread, share=mean(values))


def results_table(metrics: Plain, title: str) -> Table:
    """The accuracies of a run in percent, a row a model and token: the table that a run ends with.

    Args:
        metrics: what metrics.json holds.
        title: the data set, such as 'CIFAR-10-LT, imbalance 100'.

    Returns:
        Columns all, balanced (only where it differs from all), head, mid, tail and top-5 (as far as they
        were measured); the note says which epoch was chosen, and how.
    """
    found, protocol = accuracy_rows(metrics), metrics.get("protocol")
    columns = _measured(found)
    # The greatest number as it is printed, so that what reads equal is bold alike.
    best = {c: f"{max(row.accuracy[c] for row in found if c in row.accuracy):.1f}" for c in columns}
    rows = []
    for row in found:
        texts = {c: f"{row.accuracy[c]:.1f}" if c in row.accuracy else NOTHING for c in columns}
        rows.append(Row(row.label, [Cell(texts[c], best=texts[c] == best[c]) for c in columns]))
    return Table(
        columns=["", *columns],
        rows=rows,
        title=f"{title}, protocol: {protocol}" if protocol else title,
        note=f"top-1 accuracy in percent, best in bold; {protocols_in_words([protocol])}",
    )


def _measured(rows: Sequence[AccuracyRow]) -> list[str]:
    measured = {name for row in rows for name in row.accuracy}
    both = [row.accuracy for row in rows if {"all", "balanced"} <= row.accuracy.keys()]
    differs = any(abs(accuracy["balanced"] - accuracy["all"]) > _SAME for accuracy in both)
    wanted = ["all", *(["balanced"] if differs else []), *GROUPS[1:]]
    return [n for n in wanted if n in measured] + sorted(n for n in measured if n.startswith("top"))


def group_sizes_line(metrics: Plain) -> str:
    """How many classes and training images head, mid and tail have; empty where the run has no groups."""
    groups, counts = metrics.get("groups") or {}, metrics.get("counts") or []
    return "; ".join(
        f"{name}: {_plural(len(groups[name]), 'class', 'classes')},"
        f" {_plural(sum(counts[i] for i in groups[name]), 'image', 'images')}"
        for name in GROUPS[1:]
        if groups.get(name)
    )


def results_lines(metrics: Plain) -> list[str]:
    """The lines below the results: the groups' sizes; what differs from the recipe was said before training."""
    return [line for line in (group_sizes_line(metrics),) if line]


def per_class_table(metrics: Plain, recalls: Mapping[str, Sequence[float | None]]) -> Table:
    """A row for each class: name, group, training images, and each answer's recall in percent.

    Args:
        metrics: what metrics.json holds.
        recalls: series -> [C]; None where the class has no test image.
    """
    group_of = {c: name for name, classes in metrics["groups"].items() for c in classes}
    rows = []
    for c, name in enumerate(metrics["class_names"]):
        values = [row[c] for row in recalls.values()]
        texts = [NOTHING if value is None else f"{value:.2f}" for value in values]
        rows.append(Row(name, [Cell(text) for text in (group_of.get(c, ""), str(metrics["counts"][c]), *texts)]))
    return Table(["class", "group", "train_images", *recalls], rows)


@dataclass(frozen=True)
class SummaryRow:
    """One token of one experiment over its seeds.

    scores: 'all', 'head', 'mid', 'tail' -> its values, one a run that measured it. seeds: number of runs.
    """

    experiment: str
    part: str
    token: str
    label: str
    scores: Mapping[str, Sequence[float]]
    seeds: int


def summary_rows(runs: Sequence[Run]) -> list[SummaryRow]:
    """A row for each experiment, part and token, over the seeds.

    Runs of one experiment with the same seed differ in something else: they get rows of their own, named by
    their folders, for a mean over them would say nothing about seeds. So do runs of different protocols.

    Args:
        runs: of one data set, for others' numbers do not belong in one table.
    """
    gathered: dict[tuple[str, str, str, str], list[Mapping[str, float]]] = {}
    for run in name_runs(runs):
        for row in accuracy_rows(run.metrics):
            gathered.setdefault((run.name, row.part, row.token, row.label), []).append(row.accuracy)
    return [
        SummaryRow(*key, scores={g: [row[g] for row in rows if g in row] for g in GROUPS}, seeds=len(rows))
        for key, rows in gathered.items()
    ]


def summary_table(rows: Sequence[SummaryRow], note: str = "", seeds: bool = True) -> Table:
    """The rows as a table, grouped by experiment; seeds: whether their number is a column."""
    columns = ["run", *GROUPS, *(["seeds"] if seeds else [])]
    lines = []
    for row in rows:
        cells = [score_cell(row.scores[group]) for group in GROUPS]
        lines.append(Row(row.label, [*cells, *([Cell(str(row.seeds))] if seeds else [])], row.experiment))
    return Table(columns, lines, note=note)


def cost_table(runs: Sequence[Run]) -> Table | None:
    """What each experiment's networks cost, of the first of its seeds; None where no run says so.

    Args:
        runs: of one data set.
    """
    firsts: dict[str, Run] = {}
    for run in name_runs(runs):
        firsts.setdefault(run.name, run)
    rows, machines = [], []
    for name, run in firsts.items():
        labels = part_labels(run.metrics)
        for stage in run.stage_names:
            cost, seconds = dig(run.metrics, "cost", stage), number_in(run.metrics, "seconds", stage)
            if cost is None:
                continue
            numbers = [millions(cost["parameters"]), millions(cost["macs"]), millions(cost["images_seen"])]
            time = NOTHING if seconds is None else duration(seconds)
            cells = [Cell(text) for text in (network_in_words(run.recipe(stage)), *numbers, time)]
            rows.append(Row(labels[stage], cells, name))
            machines.append(str(cost["machine"]))
    if not rows:
        return None
    note = (
        "Millions of parameters, of multiply-adds (MACs) for one image, and of training images seen, repeats counted; "
        f"time of training on {', '.join(dict.fromkeys(machines))}"
    )
    columns = ["run", "network", "parameters", "MACs", "images seen", "time"]
    return Table(columns, rows, note=f"{note}.", left=("network",))


def millions(number: float) -> str:
    """'0.5' of 500,000, in three digits."""
    return f"{number / 1e6:.3g}" if number < 1e9 else f"{number / 1e6:,.0f}"


def duration(seconds: float) -> str:
    """'45 min'."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


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


def data_key(metrics: Plain) -> tuple[object, ...]:
    """What runs of one data set share: data of one name, but with other classes, are other data."""
    return (*(metrics.get("class_names") or ()), *(metrics.get("counts") or ()))


def data_title(metrics: Plain) -> str:
    """'digits, imbalance 20: 10 classes, 405 images'."""
    return f"{data_name(metrics)}: {data_size(metrics)}"


def data_size(metrics: Plain) -> str:
    """'10 classes, 405 images'."""
    counts = metrics.get("counts") or []
    return f"{len(counts):,} classes, {sum(counts):,} images"


def data_name(metrics: Plain) -> str:
    """'digits, imbalance 20'."""
    factor = metrics.get("imbalance_factor")
    tail = f"imbalance {1 / factor:g}" if factor else "as it is"
    return f"{metrics.get('data') or 'data without a name'}, {tail}"


def summary_markdown(runs: Sequence[Run]) -> str:
    """A Markdown table for each data set, `86.1 ± 1.2` over seeds, with the protocol in words under it."""
    parts = by_data(runs)
    if len(parts) == 1:
        return _summary(runs)
    return "\n".join(f"## {title}\n\n{_summary(found)}" for title, found in parts.items())


def _summary(runs: Sequence[Run]) -> str:
    """The table of runs of one data set, and the words under it."""
    protocols = protocols_in_words([run.protocol for run in runs])
    note = f"Top-1 accuracy in percent, mean ± sample standard deviation over seeds. Protocol: {protocols}."
    changed = [f"- changed recipe {i}: {'; '.join(c)}" for i, c in enumerate(changed_recipes(runs), start=1)]
    lines = markdown(summary_table(summary_rows(runs)))
    lines += ["", note, *(["", *changed] if changed else []), ""]
    if (paired := paired_table(runs)) is not None:
        lines += [*([paired.title + ":", "", *markdown(paired), ""] if paired.rows else []), paired.note, ""]
    if (cost := cost_table(runs)) is not None:
        lines += [*markdown(cost), "", cost.note, ""]
    return "\n".join(lines)


def paired_table(runs: Sequence[Run]) -> Table | None:
    """What `compare` finds, a group of rows an answer; without rows only its note says something."""
    if (found := compare(runs)) is None:
        return None
    rows = [Row(f"against {row.against}", [_paired_cell(row.intervals.get(group)) for group in GROUPS], row.answer)
            for row in found.rows]  # fmt: skip
    return Table(["", *GROUPS], rows, found.title, found.note)


def _paired_cell(interval: Interval | None) -> Cell:
    if interval is None:
        return Cell()
    text = "none" if interval.holds_zero else f"{interval.difference:+.1f}"
    return Cell(text, interval=f"[{interval.low:+.1f}, {interval.high:+.1f}]")


def analysis_table(analyses: Mapping[str, Sequence[Plain]], title: str = "", note: str = "") -> Table | None:
    """What analyses found by group of classes, a row a measure; None where nothing of it has groups.

    Args:
        analyses: whose -> the analyses of its seeds, in plain values; with several names each is a group of rows.
        title: of the table.
        note: what the numbers are.
    """
    gathered: dict[tuple[str, str, str], dict[str, list[tuple[float, float]]]] = {}
    for whose, found in analyses.items():
        for analysis in found:
            for label, values, number in _analysis_rows(analysis):
                row = gathered.setdefault((whose if len(analyses) > 1 else "", label, number), {})
                for group, value in values.items():
                    row.setdefault(group, []).append(value)
    groups = in_group_order([group for row in gathered.values() for group in row])
    rows = [Row(label, [_mean_cell(row.get(group, []), number) for group in groups], whose)
            for (whose, label, number), row in gathered.items()]  # fmt: skip
    return Table(["", *groups], rows, title, note) if rows else None


def _mean_cell(values: Sequence[tuple[float, float]], number: str) -> Cell:
    """values: (value, its standard error or 0), one a seed; the mean, with the mean's standard error."""
    if not values:
        return Cell()
    error = math.hypot(*(error for _, error in values)) / len(values)
    return Cell(number.format(mean(value for value, _ in values)), number.format(error) if error else "")


def _analysis_rows(analysis: Plain) -> Iterator[tuple[str, Mapping[str, tuple[float, float]], str]]:
    """Label, group -> (value, standard error), and how a value is written."""
    diversity = analysis.get("diversity", {})
    rows = [
        ("CLS and DIST disagree, %", diversity.get("disagreement"), "{:.1f}"),
        ("1 - cosine of CLS and DIST", diversity.get("cosine_distance"), "{:.3f}"),
    ]
    for token, groups in analysis.get("calibration", {}).items():
        answer = "" if analysis.get("kind") == "teacher" else f" of {TOKENS[token]}"
        rows.append((f"calibration error{answer}, %", groups, "{:.1f}"))
    for part, words in (("agreement", "teacher right"), ("consistency", "same decision")):
        rows += [(f"{words} on {kind} images, %", groups, "{:.1f}") for kind, groups in analysis.get(part, {}).items()]
    for label, groups, number in rows:
        if groups:
            yield label, {group: (value, 0.0) for group, value in groups.items()}, number
    for key, words in (("eigenvalue", "largest eigenvalue"), ("trace", "trace")):
        found = {g: numbers for g, numbers in (analysis.get("sharpness") or {}).items() if key in numbers}
        if found:
            errors = {group: (numbers[key], numbers.get(f"{key}_error") or 0.0) for group, numbers in found.items()}
            yield f"Hessian: {words}", errors, "{:.3g}"


def analysis_lines(analysis: Plain) -> list[str]:
    """What has no groups, in a line each: attention, ranks, and who wins how many classes."""
    lines = []
    distances, ranks = ({name: found for name, found in analysis.get(part, {}).items() if name in TOKENS and found}
                        for part in ("attention_distance", "rank"))  # fmt: skip
    if distances:
        said = [f"{TOKENS[token]} {mean(blocks[0]):.1f} -> {mean(blocks[-1]):.1f}"
                for token, blocks in distances.items()]  # fmt: skip
        lines.append(f"attention distance in pixels, first -> last block: {', '.join(said)}")
    if ranks:
        last = {TOKENS[token]: (found["components"][-1], found["effective"][-1]) for token, found in ranks.items()}
        lines.append(_ranks(last, "after the last block", analysis))
    elif features := dig(analysis, "rank", "features"):
        lines.append(_ranks({"features": (features["components"], features["effective"])}, "of the features", analysis))
    if "winners" in analysis:
        won = analysis["winners"]
        lines.append(f"classes won: CLS {won['cls']}, DIST {won['dist']}, ties {won['tie']}")
    return lines + hessian_lines(analysis.get("sharpness") or {})


def _ranks(ranks: Mapping[str, tuple[int, float]], where: str, analysis: Plain) -> str:
    """The ranks by both definitions, and why they are no larger, where it is the images that are too few."""
    images, width = analysis.get("images"), analysis["rank"]["width"]
    said = ", ".join(f"{name} {components} ({effective:.1f})" for name, (components, effective) in ranks.items())
    more = ""
    if images is not None and images <= width:
        more = f"; of {images:,} images a rank is at most {images - 1:,}, type images={width + 1} or more"
    return f"rank {where}, of {width}: {said}; in brackets the effective rank{more}"


def hessian_lines(sharpness: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Of how many images the Hessian is, and what a negative trace means, where there is one."""
    lines, images = [], {group: numbers["images"] for group, numbers in sharpness.items() if numbers.get("images")}
    if "all" in images:
        groups = ", ".join(f"{group} {images[group]:,}" for group in images if group != "all")
        lines.append(f"Hessian: of the loss of {images['all']:,} training images{f' ({groups})' if groups else ''}")
    if any(numbers.get("trace", 0.0) < 0 for numbers in sharpness.values()):
        lines.append("Hessian: a negative trace is a saddle's, so these weights are at no minimum")
    return lines


def _plural(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"
