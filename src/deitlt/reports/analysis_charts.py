"""What was measured inside the networks, as charts over blocks and epochs."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from statistics import mean
from typing import Final

from deitlt.reports import measures
from deitlt.reports.charts import Chart, Line, line_chart
from deitlt.reports.evidence import Evidence, Points, dig
from deitlt.reports.samples import Sample, on_images, unlike

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
_TEACHER_RANK: Final = {"components": "components for 99 % of the variance", "effective": "effective rank"}
_LOOKS: Final = {"components": "teacher", "effective": "plain"}
_GROUPS: Final = ("all", "head", "mid", "tail")
_SPARE: Final = 6  # looks for experiments that stand beside each other; more experiments are told in words


def analysis_charts(experiments: dict[str, list[Evidence]]) -> list[Chart]:
    """Charts of one data set's runs: seeds as means, several experiments beside each other.

    What was not measured on the same images says so under the chart that compares it.

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
        stages = {"student": "the student"} if lines else {}
        if points := _mean_by_block(runs, "baseline", measure, "cls"):
            lines.append(Line("plain ViT, CLS", "vit", points))
            stages["baseline"] = "the plain ViT"
        if lines:
            note = unlike({words: _samples(runs, stage, measure) for stage, words in stages.items()})
            yield line_chart(title, lines, "block", note=note)
    cosines = [dig(run.analyses, "student", "diversity", "per_block") for run in runs]
    if points := _mean_points([[float(v) for v in row] for row in cosines if row]):
        title = "Distance of CLS and DIST (1 - cosine) by block"
        note = unlike({"the student": _samples(runs, "student", "diversity")})
        yield line_chart(title, [Line("1 - cosine", "plain", points)], "block", note=note)


def _over_epochs(run: Evidence, runs: int) -> Iterator[Chart]:
    """How the tokens grew apart while they were trained, and the teacher's rank; of several seeds the first."""
    which = f" (seed {run.run.seed})" if runs > 1 else ""
    series = {group: measures.disagreement_by_epoch(run, group) for group in _GROUPS}
    if lines := [Line(group, group, points) for group, points in series.items() if len(points) > 1]:
        note = _while_training({"": measures.samples_by_epoch(run, "student", "diversity")})
        yield line_chart(f"Images on which CLS and DIST differ, %{which}", lines, "epoch", note=note)
    ranks = {measure: measures.teacher_rank_by_epoch(run, measure) for measure in _TEACHER_RANK}
    if lines := [Line(_TEACHER_RANK[m], _LOOKS[m], points) for m, points in ranks.items() if points]:
        note = _while_training({"": measures.samples_by_epoch(run, "teacher", "rank")})
        yield line_chart(f"Teacher: rank of its features{which}", lines, "epoch", note=note)


def _beside(experiments: dict[str, list[Evidence]]) -> Iterator[Chart]:
    """Several experiments: a chart for each measure and token, a line for each experiment."""
    for measure, title in _MEASURES.items():
        for token in _COMPARED[measure]:
            found = {name: _mean_by_block(runs, "student", measure, token) for name, runs in experiments.items()}
            samples = {name: _samples(runs, "student", measure) for name, runs in experiments.items()}
            yield from _compared(f"{_TOKENS[token]}: {title[0].lower()}{title[1:]}", found, samples, "block")
    grown = {name: measures.disagreement_by_epoch(runs[0]) for name, runs in experiments.items()}
    samples = {n: measures.samples_by_epoch(runs[0], "student", "diversity") for n, runs in experiments.items()}
    curves = {name: points if len(points) > 1 else [] for name, points in grown.items()}
    yield from _compared("Images on which CLS and DIST differ, %", curves, samples, "epoch", _while_training(samples))
    for measure, words in _TEACHER_RANK.items():
        ranks = {name: measures.teacher_rank_by_epoch(runs[0], measure) for name, runs in experiments.items()}
        samples = {name: _teacher_samples(runs[0]) for name, runs in experiments.items()}
        trained = {n: measures.samples_by_epoch(runs[0], "teacher", "rank") for n, runs in experiments.items()}
        yield from _compared(f"Teacher's features: {words}", ranks, samples, "epoch", _while_training(trained))


def _compared(
    title: str, found: Mapping[str, Points], samples: Mapping[str, Sequence[Sample]], x_name: str, note: str = ""
) -> Iterator[Chart]:
    """A line for each experiment that measured it, in the experiment's own colour; none, no chart. note: else."""
    lines = [Line(name, f"s{i}", points) for i, (name, points) in enumerate(found.items()) if points]
    if lines:
        note = unlike({line.name: samples[line.name] for line in lines}) or note
        yield replace(line_chart(title, lines, x_name, note=note), compares=True)


def _while_training(samples: Mapping[str, Sequence[Sample]]) -> str:
    """Curves over the epochs are of other images than what was measured after the last."""
    where = on_images([sample for found in samples.values() for sample in found])
    return f"Measured while training{where and f',{where}'}." if any(samples.values()) else ""


def _samples(runs: Sequence[Evidence], stage: str, measure: str) -> list[Sample]:
    part = measure if measure in ("attention_distance", "diversity") else "rank"
    return [found for run in runs if (found := measures.sample(run, stage, part)) is not None]


def _teacher_samples(run: Evidence) -> list[Sample]:
    """Of what `teacher_rank_by_epoch` tells."""
    return measures.samples_by_epoch(run, "teacher", "rank") or _samples([run], "teacher", "rank")


def _mean_by_block(runs: Sequence[Evidence], stage: str, measure: str, token: str) -> Points:
    return _mean_points([row for run in runs if (row := measures.by_block(run, stage, measure, token))])


def _mean_points(rows: Sequence[Sequence[float]]) -> Points:
    """Means over the seeds, blocks counted from 1; none where the networks have not the same depth."""
    if len({len(row) for row in rows}) != 1:
        return []
    return [(float(block), mean(values)) for block, values in enumerate(zip(*rows, strict=True), start=1)]
