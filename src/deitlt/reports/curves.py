"""A stage's training curves: loss, accuracies that were watched, learning rate, SAM's rho."""

from collections.abc import Iterator, Mapping
from typing import Final

from deitlt.reports.charts import Chart, Line, line_chart
from deitlt.reports.evidence import STAGES, Evidence, Points, dig
from deitlt.reports.scales import number

STAGE_NAMES: Final = {"teacher": "Teacher", "student": "Student", "baseline": "Plain ViT"}
_LOOKS: Final = {"teacher": "teacher", "student": "plain", "baseline": "vit"}
_TOKENS: Final = {"cls": "CLS", "dist": "DIST", "avg": "AVG"}
_SPLITS: Final = {"val": "validation", "test": "test"}
_X: Final = "epoch"


def training_charts(run: Evidence) -> dict[str, list[Chart]]:
    """Stage's name -> its charts; a stage without curves is absent."""
    charts = {STAGE_NAMES[stage]: list(_stage_charts(run, stage)) for stage in STAGES if run.curves.get(stage)}
    return {name: found for name, found in charts.items() if found}


def _stage_charts(run: Evidence, stage: str) -> Iterator[Chart]:
    curves = run.curves[stage]
    start = dig(run.stages, stage, "recipe", "drw", "start_epoch")
    mark = (float(start), "DRW") if start is not None else None
    if lines := _loss(curves, stage):
        yield line_chart("Training loss", lines, _X, mark=mark)
    for split, words in _SPLITS.items():
        for group, what in (("all", "accuracy"), ("tail", "tail accuracy")):
            if lines := _accuracies(curves, stage, split, group):
                yield line_chart(f"{words.capitalize()} {what}, %", lines, _X, mark=mark)
    if len(rates := curves.get("train/lr", [])) > 1:
        yield line_chart(f"Learning rate{_constant_rho(curves)}", [Line("learning rate", "plain", rates)], _X)
    rhos = curves.get("train/rho", [])
    if len({value for _, value in rhos}) > 1:
        yield line_chart("SAM's rho", [Line("rho", "plain", rhos)], _X)


def _loss(curves: Mapping[str, Points], stage: str) -> list[Line]:
    """Each token's loss where both learn, else the loss."""
    parts = [curves.get(f"train/loss_{token}", []) for token in ("cls", "dist")]
    if all(any(value for _, value in part) for part in parts):
        return [Line(_TOKENS[token], token, part) for token, part in zip(("cls", "dist"), parts, strict=True)]
    found = curves.get("train/loss", [])
    return [Line(STAGE_NAMES[stage], _LOOKS[stage], found)] if len(found) > 1 else []


def _accuracies(curves: Mapping[str, Points], stage: str, split: str, group: str) -> list[Line]:
    """What was watched at two epochs or more: a single point is in the table of results."""
    named = {f"{split}/{token}/{group}": (_TOKENS[token], token) for token in _TOKENS}
    if stage == "baseline":
        named = {f"{split}/cls/{group}": ("plain ViT", "vit")}
    named[f"{split}/{group}"] = ("teacher", "teacher")
    watched = {column: points for column in named if len(points := curves.get(column, [])) > 1}
    return [Line(*named[column], points) for column, points in watched.items()]


def _constant_rho(curves: Mapping[str, Points]) -> str:
    values = {value for _, value in curves.get("train/rho", [])}
    return f" (SAM's rho: {number(values.pop())} throughout)" if len(values) == 1 else ""
