"""What a run found: metrics.json, the per-class table and picture, the table on the terminal, and the page."""

from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from rich.console import Console

from deitlt.checkpoints import ModelSpec
from deitlt.data import LongTailDataModule
from deitlt.engine.pictures import draw_views
from deitlt.engine.run_folder import RunFolder, write_json, write_text
from deitlt.engine.stage_config import StageConfig
from deitlt.modules import RAW
from deitlt.reports.class_figures import per_class_accuracy
from deitlt.reports.figures import save_figure
from deitlt.reports.page import report_html
from deitlt.reports.page_figures import DRAWN
from deitlt.reports.runs import PAGE, read_runs
from deitlt.reports.tables import csv_text, data_name, per_class_table, results_lines, results_table, terminal
from deitlt.tracking import drawing
from deitlt.types import DataInfo

Plain = dict[str, Any]
PICTURE, PER_CLASS = "per_class.png", "per_class.csv"


def collect(config: DictConfig, info: DataInfo, results: Mapping[str, Plain], changed: list[str]) -> Plain:
    """The content of metrics.json: each part only if it was trained, percent, plain values."""
    metrics: Plain = {
        "experiment": config.recipe.experiment,
        "method": config.recipe.method,
        "data": config.data.name,
        "imbalance_factor": config.data.imbalance_factor,
        "seed": config.seed,
    }
    held_out: Plain = {}
    for stage, result in results.items():
        for network, found in result["networks"].items():
            metrics[_part(stage, network)] = _accuracy(stage, found["accuracy"])
        for network, accuracy in result.get("val", {}).items():
            held_out[_part(stage, network)] = _accuracy(stage, accuracy)
    if held_out:
        metrics["val"] = held_out
    return metrics | {
        "protocol": config.protocol,
        **_classes(info),
        "recipe_differences": changed,
        "seconds": {stage: result["seconds"] for stage, result in results.items()},
        "checkpoints": {stage: result["checkpoint"] for stage, result in results.items()},
        "versions": {name: version(name) for name in ("deitlt", "torch", "lightning", "timm")},
    }


def collect_evaluation(spec: ModelSpec, data: LongTailDataModule, results: Mapping[str, Plain], path: str) -> Plain:
    """The content of metrics.json for one checkpoint that was measured on `data`."""
    accuracy = results[spec.kind]["networks"][RAW]["accuracy"]
    return {
        "data": data.spec.name,
        "imbalance_factor": spec.data["imbalance_factor"],
        spec.kind: accuracy["cls"] if spec.kind == "teacher" else accuracy,
        "protocol": "last" if spec.protocol and Path(path).name != "best.ckpt" else spec.protocol,
        **_classes(spec.info),
        "checkpoints": {spec.kind: path},
    }


def _classes(info: DataInfo) -> Plain:
    return {
        "groups": {name: list(classes) for name, classes in info.groups.items()},
        "counts": list(info.counts),
        "class_names": list(info.class_names),
    }


def series(results: Mapping[str, Plain]) -> dict[str, list[float | None]]:
    """Per-class recalls in percent of everything that was tested, by the name that pictures use."""
    names: dict[str, list[float | None]] = {}
    for stage, result in results.items():
        for network, found in result["networks"].items():
            suffix = "" if network == RAW else f" ({network.upper()})"
            for token, recalls in found["per_class"].items():
                names[f"{_label(stage, token)}{suffix}"] = recalls
    return names


def write_results(metrics: Plain, results: Mapping[str, Plain], run: RunFolder) -> None:
    """Write the per-class table, metrics.json, and the table's picture, whose failure is a warning, in that order."""
    recalls = series(results)
    write_text(run.path / PER_CLASS, csv_text(per_class_table(metrics, recalls)))
    write_json(run.metrics, metrics)
    with drawing(PICTURE):
        figure = per_class_accuracy(
            {name: values for name, values in recalls.items() if name in DRAWN},
            metrics["counts"],
            metrics["class_names"],
            metrics["groups"],
            data_name(metrics),
        )
        save_figure(figure, run.path / PICTURE)


def show(metrics: Plain, run: RunFolder, console: Console) -> None:
    """Print the table, and where the rest lies."""
    console.print(terminal(results_table(metrics, data_name(metrics))))
    more = ", ".join(str(path) for path in (run.metrics, run.path / PICTURE) if path.exists())
    for line in [*results_lines(metrics), f"more: {more}"]:
        console.print(line, highlight=False, soft_wrap=True, markup=False)


def write_run_report(run: RunFolder, stages: Iterable[StageConfig], console: Console) -> None:
    """Draw what the stages saw, write the page, and say where it lies; what goes wrong is said, and loses no run.

    Args:
        run: a finished run.
        stages: what was trained, a student with its teacher's checkpoint; asked for once, and it may fail.
        console: where to say it.
    """
    page = run.path / PAGE
    try:
        trained = {stage.name: stage for stage in stages}
        for name, stage in trained.items():
            picture = run.stage(name) / "views.png"
            if not picture.exists() and not (name == "baseline" and "student" in trained):
                draw_views(stage, picture)
        write_text(page, report_html(read_runs([run.path])))
        said = f"report: {page}"
    except Exception as error:  # whatever it is: the run is finished, and its numbers are written
        reason = str(error).strip().splitlines()[:1] or [type(error).__name__]
        said = f"no report was written ({reason[0]}); type deitlt report {run.path} --html={page} when that is mended."
    console.print(said, highlight=False, soft_wrap=True, markup=False)


def _accuracy(stage: str, tokens: Plain) -> Plain:
    """A teacher has one answer, so its accuracies need no token's name."""
    answer: Plain = tokens["cls"] if stage == "teacher" else tokens
    return answer


def _part(stage: str, network: str) -> str:
    return stage if network == RAW else f"{stage}_{network}"


def _label(stage: str, token: str) -> str:
    if stage == "teacher":
        return "teacher"
    return "plain ViT" if stage == "baseline" else token.upper()
