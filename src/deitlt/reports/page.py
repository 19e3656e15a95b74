"""The page: one file that opens from disk, with every picture in it and nothing fetched, and a run in words."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from statistics import mean
from typing import Any, Final, TypeAlias

import jinja2

from deitlt.reports.claims import findings
from deitlt.reports.figures import save_figure
from deitlt.reports.page_figures import (
    ANSWERS,
    analysis_charts,
    class_chart,
    group_chart,
    named_charts,
    pictures,
    training_charts,
)
from deitlt.reports.runs import (
    STAGES,
    Plain,
    Run,
    changed_recipes,
    dig,
    epochs_in_words,
    name_runs,
    network_in_words,
    number_in,
    part_labels,
    protocols_in_words,
)
from deitlt.reports.tables import (
    SummaryRow,
    Table,
    analysis_table,
    by_data,
    cost_table,
    data_name,
    data_size,
    duration,
    group_sizes_line,
    hessian_lines,
    paired_table,
    per_class_table,
    summary_rows,
    summary_table,
)

Part: TypeAlias = dict[str, Any]  # what a template shows
_MAIN: Final = ("", "cls", "dist", "avg")  # tokens in the first table; fusions and moving averages are in the second
_DRAWN: Final = 8  # runs of a data set with curves; the page of a hundred runs stays a page
_PICTURED: Final = 4  # experiments with pictures, each of its first run
_LISTED: Final = 100  # classes up to which their numbers stand under the figure
_WITH_ARTICLE: Final = ("teacher", "plain ViT")  # in a sentence
_MEASURED: Final = ("attention_distance", "rank", "diversity", "winners", "calibration")
_MACHINE: Final = {"cpu": "CPU", "gpu": "GPU", "cuda": "GPU", "mps": "Apple GPU"}
_OWN_FOLDER: Final = ("paths.output_dir=", "+paths.output_dir=", "++paths.output_dir=")  # it holds a finished run


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
    # A number and its percent sign stay in one line.
    environment.filters["together"] = lambda text: text.replace(" %", "\N{NO-BREAK SPACE}%")
    page = environment.get_template("page.html.j2")
    return page.render(title=_title(runs, len(parts)), parts=parts, version=version("deitlt"))


def by_experiment(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Named runs of one data set by their names, which seeds share."""
    found: dict[str, list[Run]] = {}
    for run in runs:
        found.setdefault(run.name, []).append(run)
    return found


def write_pictures(runs: Sequence[Run], folder: Path) -> list[Path]:
    """Write the page's figures as PNG files; of several data sets each into a folder of its own.

    Raises:
        ConfigError: a file of a run is there and cannot be read.
    """
    parts = by_data(runs)
    written = []
    for i, found in enumerate(parts.values(), start=1):
        place = folder / f"data-{i}" if len(parts) > 1 else folder
        for name, chart in named_charts(by_experiment(name_runs(found))).items():
            written.append(save_figure(chart.figure, place / f"{name}.png"))
    return written


def _title(runs: Sequence[Run], data_sets: int) -> str:
    """'digits, imbalance 20: 2 runs'; data of one name may be several sets, of other images per class."""
    names = list(dict.fromkeys(data_name(run.metrics) for run in runs))
    what = names[0] if len(names) == 1 else f"{data_sets} data sets"
    of = f" of {data_sets} data sets" if len(names) == 1 < data_sets else ""
    return f"{what}: one run" if len(runs) == 1 else f"{what}: {len(runs)} runs{of}"


def _data_part(slug: str, title: str, runs: Sequence[Run]) -> Part:
    """All runs of one data set, by the names that the templates use."""
    runs = name_runs(runs)
    experiments = by_experiment(runs)
    rows = summary_rows(runs)
    main = [row for row in rows if row.token in _MAIN and not row.part.endswith("_ema")]
    more = [row for row in rows if row not in main]
    protocols = protocols_in_words([run.protocol for run in runs])
    part: Part = {
        "slug": slug,
        "title": title,
        "classes": data_size(runs[0].metrics),
        "sizes": group_sizes_line(runs[0].metrics),
        "groups": group_chart(experiments),
        "main": _accuracies(main, len(experiments) > 1, f"{protocols[:1].upper()}{protocols[1:]}."),
        "more": _accuracies(more, len(experiments) > 1) if more else None,
        "cost": cost_table(runs),
        "paired": paired_table(runs),
        "changed": _changes_in_words(changed_recipes(runs)) if len(runs) > 1 else [],
        "findings": findings(runs),
        "charts": analysis_charts(experiments),
        "experiments": [_experiment_part(*named, i < _PICTURED) for i, named in enumerate(experiments.items())],
        "runs": [_run_part(run, i < _DRAWN) for i, run in enumerate(runs)],
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


def _experiment_part(name: str, runs: Sequence[Run], pictured: bool) -> Part:
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
        "pictures": pictures(runs[0]) if pictured else [],
    }


def _inside(runs: Sequence[Run]) -> Table | None:
    """What the analyses found by group of classes, the means over the seeds."""
    labels = part_labels(runs[0].metrics)
    stages = runs[0].stage_names
    analyses = {labels[stage]: [run.analyses[stage] for run in runs if stage in run.analyses] for stage in stages}
    found = {name: measured for name, measured in analyses.items() if measured}
    said = {line: None for measured in found.values() for line in hessian_lines(measured[0].get("sharpness") or {})}
    return analysis_table(found, note="".join(f" {line}." for line in said).lstrip())


def _show_once(experiments: Sequence[Part]) -> None:
    """Leave out the pictures that an experiment before has, too (of the same images), and say which."""
    owner: dict[str, str] = {}
    for part in experiments:
        found = part["pictures"]
        part["alike"] = {picture.caption: owner[picture.source] for picture in found if picture.source in owner}
        part["pictures"] = [picture for picture in found if picture.source not in owner]
        owner |= {picture.source: part["name"] for picture in part["pictures"]}


def _run_part(run: Run, drawn: bool) -> Part:
    """How one run was made; charts: stage's name -> its curves."""
    return {
        "name": run.name if run.seed is None else f"{run.name}, seed {run.seed}",
        "folder": str(run.folder),
        "facts": facts(run),
        "changes": run.changes,
        "commands": commands(run),
        "charts": training_charts(run) if drawn else {},
    }


def trained_in_words(run: Run) -> str:
    """What was trained, in a sentence or two; empty where the run kept no configuration."""
    trained = [stage for stage in STAGES if run.metrics.get(stage)]
    said = [_DESCRIBED[stage](run.recipe(stage)) for stage in trained if run.recipe(stage)]
    if "student" in trained and "teacher" not in trained and dig(run.config, "teacher", "checkpoint"):
        said.append("Its teacher was given as a checkpoint.")
    return " ".join(said)


def _teacher(recipe: Plain) -> str:
    loss = str(dig(recipe, "loss", "_target_") or "").rpartition(".")[2].removesuffix("Loss")
    how = " and ".join([*([f"the {loss} loss"] if loss else []), *(["SAM"] if dig(recipe, "sam", "enabled") else [])])
    return f"A teacher, {dig(recipe, 'model', 'name')}, was trained for {_epochs(recipe)}{how and f' with {how}'}."


def _student(recipe: Plain) -> str:
    kind, start = dig(recipe, "distillation", "kind"), dig(recipe, "drw", "start_epoch")
    taught = (
        f"whose DIST token learns the teacher's {kind} decisions"
        if kind not in (None, "none")
        else "which nobody teaches"
    )
    drw = f"; from epoch {start} on its loss is re-weighted for the tail" if start is not None else ""
    return f"A student, {network_in_words(recipe)}, {taught}, was trained for {_epochs(recipe)}{drw}."


def _baseline(recipe: Plain) -> str:
    return f"Beside it a plain ViT of the same size was trained for {_epochs(recipe)}, without a teacher."


_DESCRIBED: Final = {"teacher": _teacher, "student": _student, "baseline": _baseline}


def _epochs(recipe: Plain) -> str:
    return epochs_in_words(recipe["epochs"]) if "epochs" in recipe else "an unknown number of epochs"


def results_in_words(runs: Sequence[Run]) -> str:
    """Who of one experiment is right on how much, in order, as means over its seeds; empty where nobody has a tail."""
    said = []
    for group, where in (("tail", "In the tail"), ("all", "Over all test images")):
        values = {
            f"the {name}" if name in _WITH_ARTICLE else name: [run.accuracy(*answer, group) for run in runs]
            for name, answer in ANSWERS.items()
        }
        known = {name: [v for v in found if v is not None] for name, found in values.items()}
        means = {name: mean(found) for name, found in known.items() if found}
        names = sorted(means, key=lambda name: -means[name])
        if not names:
            return ""
        first, *others = [f"{name}{' is right' if name == names[0] else ''} on {means[name]:.1f} %" for name in names]
        said.append(f"{where} {_listed([f'{first} of the images' if group == 'tail' else first, *others])}.")
    return " ".join(said)


def measured_in_words(runs: Sequence[Run]) -> str:
    """After how many epochs, and on what, the insides of an experiment's students were measured; empty where none was.

    Where the parts were measured on different images, as by an analysis of some of them, each is told.
    """
    named: dict[str, dict[str, None]] = {}
    for run in runs:
        for part in _MEASURED:
            if (sample := run.sample("student", part)) is not None:
                epoch = run.newest("student", part).get("epoch")
                after = "" if epoch is None else f"after {epochs_in_words(epoch)} "
                named.setdefault(f"{after}on {sample}", {})[part.replace("_", " ")] = None
    if len(named) == 1:
        return f"Measured {next(iter(named))}."
    return f"Measured {'; '.join(f'{where}: {_listed([*parts])}' for where, parts in named.items())}." if named else ""


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def facts(run: Run) -> dict[str, str]:
    """How the run was made: name -> words. What it did not write down is absent."""
    metrics = run.metrics
    labels = part_labels(metrics)
    seconds = [(labels[stage], number_in(metrics, "seconds", stage)) for stage in run.stage_names]
    trainers = [stage["trainer"] for stage in run.stages.values() if stage.get("trainer")]
    found = {
        "Experiment": metrics.get("experiment"),
        "Method": metrics.get("method"),
        "Seed": None if metrics.get("seed") is None else str(metrics["seed"]),
        "Reported epoch": protocols_in_words([metrics.get("protocol")]),
        "Time": "; ".join(f"{name} {duration(time)}" for name, time in seconds if time is not None),
        "Machine": "; ".join(dict.fromkeys(map(_machine, trainers))),
        "Versions": ", ".join(f"{name} {version}" for name, version in (metrics.get("versions") or {}).items()),
    }
    return {name: str(words) for name, words in found.items() if words}


def _machine(trainer: Mapping[str, Any]) -> str:
    accelerator = str(trainer.get("accelerator"))
    return f"{trainer.get('devices') or 1} {_MACHINE.get(accelerator, accelerator)}, {trainer.get('precision')}"


def commands(run: Run) -> list[tuple[str, str]]:
    """(what it does, command) to train the run again, to measure its student, to analyse it, to make this page."""
    words = dig(run.config, "recipe", "overrides")
    folder = str(run.folder)
    found: list[tuple[str, Sequence[str]]] = []
    if words is not None:
        again = [str(word) for word in words if not str(word).startswith(_OWN_FOLDER)]
        found.append(("Train it again", ["train", *again]))
    elif run.metrics.get("experiment"):
        keys = [key for key in ("experiment", "method", "seed") if run.metrics.get(key) is not None]
        recipe = ["train", *(f"{key}={run.metrics[key]}" for key in keys)]
        found.append(("Its recipe, without what the run changed in it", recipe))
    if run.metrics.get("student"):
        found.append(("Measure its student", ["evaluate", f"checkpoint={folder}"]))
    if run.analyses:
        found.append(("Look inside it", ["analyze", f"checkpoint={folder}"]))
    found.append(("Make its report", ["report", folder, "--html=report.html"]))
    return [(what, shlex.join(["deitlt", *typed])) for what, typed in found]
