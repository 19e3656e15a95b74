"""The page: one file that opens from disk, with every picture in it and nothing fetched."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final, TypeAlias

import jinja2

from deitlt import __version__
from deitlt.reports.claims import findings
from deitlt.reports.page_figures import analysis_charts, class_chart, pictures, training_charts
from deitlt.reports.run_data import STAGES, RunData, read_run_data
from deitlt.reports.runs import Run, by_data, changed_recipes, data_name, data_size, protocol_in_words, run_names
from deitlt.reports.summary import commands, facts, measured_in_words, results_in_words, trained_in_words
from deitlt.reports.tables import (
    SummaryRow,
    Table,
    analysis_table,
    group_sizes_line,
    hessian_lines,
    per_class_table,
    summary_rows,
    summary_table,
)

Part: TypeAlias = dict[str, Any]  # what a template shows
_MAIN: Final = ("", "cls", "dist", "avg")  # tokens in the first table; fusions and moving averages are in the second
_DRAWN: Final = 8  # runs of a data set with curves; the page of a hundred runs stays a page
_PICTURED: Final = 4  # experiments with pictures, each of its first run
_LISTED: Final = 100  # classes up to which their numbers stand under the figure


def report_html(runs: Sequence[Run]) -> str:
    """The page of the runs, a part for each data set.

    Raises:
        ConfigError: a file of a run is there and cannot be read.
    """
    parts = [_data_part(f"data-{i}", title, found) for i, (title, found) in enumerate(by_data(runs).items(), start=1)]
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("deitlt", "reports/templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["together"] = _together
    page = environment.get_template("page.html.j2")
    return page.render(title=_title(runs, len(parts)), parts=parts, version=__version__)


def _title(runs: Sequence[Run], data_sets: int) -> str:
    """'digits, imbalance 20: 2 runs'; data of one name may be several sets, of other images per class."""
    names = list(dict.fromkeys(data_name(run.metrics) for run in runs))
    what = names[0] if len(names) == 1 else f"{data_sets} data sets"
    of = f" of {data_sets} data sets" if len(names) == 1 < data_sets else ""
    return f"{what}: one run" if len(runs) == 1 else f"{what}: {len(runs)} runs{of}"


def _data_part(slug: str, title: str, runs: Sequence[Run]) -> Part:
    """All runs of one data set, by the names that the templates use."""
    data = [read_run_data(run, name) for run, name in zip(runs, run_names(runs), strict=True)]
    experiments: dict[str, list[RunData]] = {}
    for run in data:
        experiments.setdefault(run.name, []).append(run)
    rows = summary_rows(runs)
    main = [row for row in rows if row.token in _MAIN and not row.part.endswith("_ema")]
    more = [row for row in rows if row not in main]
    protocols = "; ".join(protocol_in_words(protocol) for protocol in dict.fromkeys(run.protocol for run in runs))
    part: Part = {
        "slug": slug,
        "title": title,
        "classes": data_size(runs[0].metrics),
        "sizes": group_sizes_line(runs[0].metrics),
        "main": _accuracies(main, len(experiments) > 1, f"{protocols[:1].upper()}{protocols[1:]}."),
        "more": _accuracies(more, len(experiments) > 1) if more else None,
        "changed": _changes_in_words(changed_recipes(runs)) if len(runs) > 1 else [],
        "findings": findings(data),
        "charts": analysis_charts(experiments),
        "experiments": [_experiment_part(*named, i) for i, named in enumerate(experiments.items())],
        "runs": [_run_part(run, i < _DRAWN) for i, run in enumerate(data)],
    }
    _show_once(part["experiments"])
    return part | {"sections": _sections(part)}


def _sections(part: Part) -> dict[str, str]:
    """Those that have content: id -> heading."""
    experiments = part["experiments"]
    found = {
        "accuracy": ("Accuracy", True),
        "classes": ("Class by class", any(e["classes"] for e in experiments)),
        "claims": ("The paper's claims", True),
        "inside": ("Inside the networks", part["charts"] or any(e["inside"] for e in experiments)),
        "pictures": ("What the networks see", any(e["pictures"] for e in experiments)),
        "curves": ("Training curves", any(run["charts"] for run in part["runs"])),
        "runs": ("How it was made", True),
    }
    return {id_: heading for id_, (heading, there) in found.items() if there}


def _accuracies(rows: Sequence[SummaryRow], named: bool, protocols: str = "") -> Table:
    """named: whether the experiments' names stand over their rows."""
    seeded = max(row.seeds for row in rows) > 1
    note = f"Top-1 accuracy in percent{': mean ± sample standard deviation over seeds' if seeded else ''}. {protocols}"
    rows = rows if named else [replace(row, experiment="") for row in rows]
    return summary_table(rows, note.rstrip(), seeded)


def _changes_in_words(changed: Sequence[Sequence[str]]) -> list[str]:
    """What each numbered recipe changed, and before that, once, what all of them did."""
    shared = [change for change in changed[0] if all(change in other for other in changed)] if len(changed) > 1 else []
    said = [f"Every changed recipe: {'; '.join(shared)}."] if shared else []
    for i, changes in enumerate(changed, start=1):
        own = [change for change in changes if change not in shared]
        said.append(f"Changed recipe {i}{', beside that' if shared else ''}: {'; '.join(own) or 'nothing else'}.")
    return said


def _together(text: str) -> str:
    """A number and its percent sign stay in one line."""
    return text.replace(" %", "\N{NO-BREAK SPACE}%")


def _experiment_part(name: str, runs: Sequence[RunData], place: int) -> Part:
    """The seeds of one experiment; sentences may be empty, tables and figures None."""
    chart, metrics = class_chart(runs), runs[0].metrics
    listed = chart is not None and len(runs) == 1 and len(metrics["counts"]) <= _LISTED
    return {
        "name": name,
        "trained": trained_in_words(runs[0]),
        "found": results_in_words(runs),
        "measured": measured_in_words(runs),
        "classes": chart,
        "by_class": per_class_table({"groups": {}, **metrics}, runs[0].recalls) if listed else None,
        "inside": _inside(runs),
        "pictures": pictures(runs[0].run.folder, runs[0].distils) if place < _PICTURED else [],
    }


def _inside(runs: Sequence[RunData]) -> Table | None:
    """What the analyses found by group of classes, the means over the seeds."""
    names = {"teacher": "teacher", "student": "student", "baseline": "plain ViT"}
    analyses = {names[stage]: [run.analyses[stage] for run in runs if stage in run.analyses] for stage in STAGES}
    found = {name: measured for name, measured in analyses.items() if measured}
    said = {line: None for measured in found.values() for line in hessian_lines(measured[0].get("sharpness") or {})}
    return analysis_table(found, note="".join(f" {line}." for line in said).lstrip())


def _show_once(experiments: Sequence[Part]) -> None:
    """Leave out the pictures that an experiment before has, too (equal views of the same images), and say which."""
    owner: dict[str, str] = {}
    for part in experiments:
        found = part["pictures"]
        part["alike"] = {picture.caption: owner[picture.source] for picture in found if picture.source in owner}
        part["pictures"] = [picture for picture in found if picture.source not in owner]
        owner |= {picture.source: part["name"] for picture in part["pictures"]}


def _run_part(run: RunData, drawn: bool) -> Part:
    """How one run was made; charts: stage's name -> its curves."""
    return {
        "name": run.name if run.run.seed is None else f"{run.name}, seed {run.run.seed}",
        "folder": str(run.run.folder),
        "facts": facts(run),
        "changes": run.run.changes,
        "commands": commands(run),
        "charts": training_charts(run) if drawn else {},
    }
