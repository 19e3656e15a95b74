"""What was measured inside the networks, as charts over blocks and epochs."""

from collections.abc import Iterator, Sequence
from statistics import mean
from typing import Final

from deitlt.report import measures
from deitlt.report.charts import Chart, Line, line_chart
from deitlt.report.evidence import Evidence, dig

_MEASURES: Final = {
    "attention_distance": "Mean attention distance by block, pixels",
    "components": "Principal components for 99 % of the variance, by block",
    "effective": "Effective rank of the features, by block",
}
_TOKENS: Final = {"cls": "CLS", "dist": "DIST", "patches": "patches"}
_COMPARED: Final = {
    "attention_distance": ("patches", "dist", "cls"),  # the paper's claim is about the patches
    "components": ("dist", "cls"),
    "effective": ("dist", "cls"),
}
_GROUPS: Final = ("all", "head", "mid", "tail")
_SPARE: Final = 6  # looks for experiments that stand beside each other; more experiments are told in words


def analysis_charts(experiments: dict[str, list[Evidence]]) -> list[Chart]:
    """Charts of one data set's runs: seeds as means, several experiments beside each other.

    Args:
        experiments: name -> its runs.
    """
    if len(experiments) == 1:
        (runs,) = experiments.values()
        return [*_one(runs), *_over_epochs(runs[0], len(runs))]
    return list(_beside(dict(list(experiments.items())[:_SPARE])))


def _one(runs: Sequence[Evidence]) -> Iterator[Chart]:
    """One experiment: its tokens, and the plain ViT that was trained with it."""
    for measure, title in _MEASURES.items():
        found = {token: _mean_by_block(runs, "student", measure, token) for token in _TOKENS}
        lines = [Line(_TOKENS[token], token, points) for token, points in found.items() if points]
        if points := _mean_by_block(runs, "baseline", measure, "cls"):
            lines.append(Line("plain ViT, CLS", "vit", points))
        if lines:
            yield line_chart(title, lines, "block")
    cosines = [dig(run.analyses, "student", "diversity", "per_block") for run in runs]
    if points := _mean_points([[float(v) for v in row] for row in cosines if row]):
        yield line_chart(
            "Distance of CLS and DIST (1 - cosine) by block", [Line("1 - cosine", "plain", points)], "block"
        )


def _over_epochs(run: Evidence, runs: int) -> Iterator[Chart]:
    """How the tokens grew apart, where the run was analysed while training; of several seeds the first."""
    which = f" (seed {run.run.seed})" if runs > 1 else ""
    series = {group: measures.disagreement_by_epoch(run, group) for group in _GROUPS}
    if lines := [Line(group, group, points) for group, points in series.items() if len(points) > 1]:
        yield line_chart(f"Images on which CLS and DIST differ, %{which}", lines, "epoch")


def _beside(experiments: dict[str, list[Evidence]]) -> Iterator[Chart]:
    """Several experiments: a chart for each measure and token, a line for each experiment."""
    for measure, title in _MEASURES.items():
        for token in _COMPARED[measure]:
            found = {name: _mean_by_block(runs, "student", measure, token) for name, runs in experiments.items()}
            if lines := [Line(name, f"s{i}", points) for i, (name, points) in enumerate(found.items()) if points]:
                yield line_chart(f"{_TOKENS[token]}: {title[0].lower()}{title[1:]}", lines, "block")
    grown = {name: measures.disagreement_by_epoch(runs[0]) for name, runs in experiments.items()}
    if lines := [Line(name, f"s{i}", points) for i, (name, points) in enumerate(grown.items()) if len(points) > 1]:
        yield line_chart("Images on which CLS and DIST differ, %", lines, "epoch")


def _mean_by_block(runs: Sequence[Evidence], stage: str, measure: str, token: str) -> list[tuple[float, float]]:
    return _mean_points([row for run in runs if (row := measures.by_block(run, stage, measure, token))])


def _mean_points(rows: Sequence[Sequence[float]]) -> list[tuple[float, float]]:
    """Means over the seeds, blocks counted from 1; none where the networks have not the same depth."""
    if len({len(row) for row in rows}) != 1:
        return []
    return [(float(block), mean(values)) for block, values in enumerate(zip(*rows, strict=True), start=1)]
