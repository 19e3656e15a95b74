"""The figures of the page: accuracy by class, training curves, what was measured inside the networks, pictures."""

import base64
import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from statistics import mean
from typing import Final

from markupsafe import Markup
from matplotlib.figure import Figure
from PIL import Image

from deitlt.reports.class_figures import per_class_accuracy
from deitlt.reports.figures import (
    ATTENTION,
    COSINE,
    DISAGREEMENT,
    RANKS,
    SeriesStyle,
    bar_panels,
    line_panels,
    series_style,
    spare_style,
    svg_of,
)
from deitlt.reports.runs import GROUPS, PARTS, STAGES, TOKENS, Points, Run, Sample, dig, on_images, part_labels

ANSWERS: Final = {
    **{"teacher": ("teacher", ""), "CLS": ("student", "cls"), "DIST": ("student", "dist")},
    **{"AVG": ("student", "avg"), "plain ViT": ("baseline", "cls")},
}
DRAWN: Final = tuple(ANSWERS)  # averages' and fusions' bars would hide the experts'
_EXPERIMENTS: Final = 6  # looks for experiments that stand beside each other; more experiments are told in words
_MOST_POINTS: Final = 240  # of a line that are drawn
_SPLITS: Final = {"val": "validation", "test": "test"}
_SMALL, _WIDEST, _QUALITY = 150_000, 1400, 82  # a picture of more bytes is encoded again, at most so wide


@dataclass(frozen=True)
class Chart:
    """A figure with its words. alt: what it shows, for who cannot see it. note: a sentence under it."""

    title: str
    figure: Figure
    alt: str
    note: str = ""

    @cached_property
    def svg(self) -> Markup:
        """The figure as an element of a page."""
        return svg_of(self.figure, self.alt)


@dataclass(frozen=True)
class Picture:
    """source: a data URI. width, height: in pixels, so that the page does not jump. alt: what it shows."""

    source: str
    width: int
    height: int
    caption: str
    alt: str


def chart(
    title: str,
    lines: Mapping[str, Points],
    x_name: str,
    looks: Mapping[str, SeriesStyle] | None = None,
    mark: tuple[float, str] | None = None,
    note: str = "",
    named: bool | None = None,
) -> Chart:
    """Lines with their title, the first and last number of each in words; the rest as `line_panels` takes it."""
    thin = {name: _thinned(points) for name, points in lines.items()}
    said = " ".join(_in_words(name, points, x_name) for name, points in lines.items())
    figure = line_panels({"": thin}, x_name, looks=looks, mark=mark, named=named)
    return Chart(f"{title[0].upper()}{title[1:]}", figure, f"{title}. {said}", note)


def _thinned(points: Points) -> Points:
    """Not more points than can be seen, the last among them."""
    kept = points[:: -(-len(points) // _MOST_POINTS)]
    return kept if kept[-1] == points[-1] else [*kept, points[-1]]


def _in_words(name: str, points: Points, x_name: str) -> str:
    """'CLS: 2.24 at epoch 1, 0.56 at epoch 150.'."""
    ends = dict.fromkeys((points[0], points[-1]))
    return f"{name}: {', '.join(f'{value:.3g} at {x_name} {at:g}' for at, value in ends)}."


def class_chart(runs: Sequence[Run]) -> Chart | None:
    """One experiment's recall by class, the mean over its seeds; None where none was written."""
    metrics = runs[0].metrics
    counts, names = metrics.get("counts") or [], metrics.get("class_names") or []
    series = [name for name in DRAWN if all(len(run.recalls.get(name, ())) == len(counts) for run in runs)]
    if not series or not counts:
        return None
    recalls = {
        name: [_mean(values) for values in zip(*(r.recalls[name] for r in runs), strict=True)] for name in series
    }
    figure = per_class_accuracy(recalls, counts, names, metrics.get("groups") or {})
    over = f", mean over {len(runs)} seeds" if len(runs) > 1 else ""
    means = ", ".join(f"{name} {value:.1f} %" for name in series if (value := _mean(recalls[name])) is not None)
    title = f"Share of each class's test images that is answered right, in percent{over}"
    return Chart(f"{title}.", figure, f"{title}, from the most to the least frequent class. Means: {means}.")


def group_chart(experiments: Mapping[str, Sequence[Run]]) -> Chart | None:
    """Bars of each group of classes, means over the seeds; None where no group was measured.

    One experiment's answers stand beside each other; of several, the mean of the tokens, or the only one, of each.

    Args:
        experiments: name -> its runs, of one data set.
    """
    chosen = list(experiments.items())[:_EXPERIMENTS]
    if len(chosen) == 1:
        answers = {name: (chosen[0][1], [answer]) for name, answer in ANSWERS.items()}
    else:
        answers = {name: (runs, [("student", "avg"), ("student", "cls")]) for name, runs in chosen}
    panels: dict[str, dict[str, float]] = {}
    for name, (runs, tried) in answers.items():
        for group in GROUPS:
            values = [v for answer in tried if (v := _mean([run.accuracy(*answer, group) for run in runs])) is not None]
            if values:
                panels.setdefault(group, {})[name] = values[0]
    if not panels.keys() - {"all"}:
        return None
    title = "Share of each group's test images that is answered right, in percent"
    said = ". ".join(f"{group}: {', '.join(f'{n} {v:.1f}' for n, v in bars.items())}" for group, bars in panels.items())
    return Chart(f"{title}.", bar_panels({"": panels}, percent=True), f"{title}. {said}.")


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return mean(known) if known else None


def training_charts(run: Run) -> dict[str, list[Chart]]:
    """Stage's name -> its curves: loss, accuracies that were watched, learning rate, rho; without curves absent."""
    labels = part_labels(run.metrics)
    charts = {_capital(labels[stage]): list(_stage_charts(run, stage)) for stage in run.stage_names}
    return {name: found for name, found in charts.items() if found}


def _capital(words: str) -> str:
    return words[0].upper() + words[1:]


def _stage_charts(run: Run, stage: str) -> Iterator[Chart]:
    curves = run.curves[stage]
    start = dig(run.recipe(stage), "drw", "start_epoch")
    mark = (float(start), "DRW") if start is not None else None
    if lines := _losses(curves, stage):
        yield chart("training loss", lines, "epoch", {"Student": series_style("all")}, mark)
    for split, words in _SPLITS.items():
        for group, what in (("all", "accuracy"), ("tail", "tail accuracy")):
            named = {f"{split}/{token}/{group}": token.upper() for token in ("cls", "dist", "avg")}
            if stage == "baseline":
                named = {f"{split}/cls/{group}": "plain ViT"}
            named[f"{split}/{group}"] = "teacher"
            # What was watched at one epoch alone is in the table of results.
            if lines := {name: curves[column] for column, name in named.items() if len(curves.get(column, ())) > 1}:
                yield chart(f"{words} {what}, %", lines, "epoch", mark=mark)
    rhos = curves.get("train/rho", [])
    values = {value for _, value in rhos}
    throughout = f" (SAM's rho: {values.pop():.3g} throughout)" if len(values) == 1 else ""
    if len(rates := curves.get("train/lr", [])) > 1:
        yield chart(f"learning rate{throughout}", {"all": rates}, "epoch")
    if len(values) > 1:
        yield chart("SAM's rho", {"all": rhos}, "epoch")


def _losses(curves: Mapping[str, Points], stage: str) -> dict[str, Points]:
    """Each token's loss where both learn, else the loss."""
    parts = {token.upper(): curves.get(f"train/loss_{token}", []) for token in ("cls", "dist")}
    if all(any(value for _, value in part) for part in parts.values()):
        return parts
    found = curves.get("train/loss", [])
    return {_capital(PARTS.get(stage, stage)): found} if len(found) > 1 else {}


@dataclass(frozen=True)
class _Line:
    """One line over blocks or epochs, in a figure with others of one experiment, or beside those of other experiments.

    title: of the figure of one experiment. name: in its legend. beside: the title of the figure in which experiments
    are compared by it, if they are. x_name: 'block' or 'epoch'. stage, part: of whose analysis, and of which part of
    it. points: one run's.
    """

    title: str
    name: str
    beside: str
    x_name: str
    stage: str
    part: str
    points: Callable[[Run], Points]
    look: SeriesStyle | None = None


def _lines() -> Iterator[_Line]:
    for measure, words in {"attention_distance": ATTENTION, **RANKS}.items():
        part, title = "rank" if measure in RANKS else measure, f"{words}, by block"
        for token in ("cls", "dist", "patches"):
            points = partial(Run.by_block, stage="student", measure=measure, token=token)
            yield _Line(title, TOKENS[token], f"{TOKENS[token]}: {title}", "block", "student", part, points)
        points = partial(Run.by_block, stage="baseline", measure=measure, token="cls")
        yield _Line(title, "plain ViT, CLS", "", "block", "baseline", part, points)
    yield _Line(f"{COSINE}, by block", "all", "", "block", "student", "diversity", Run.cosine_by_block)
    for group in GROUPS:
        points = partial(Run.disagreement_by_epoch, group=group)
        beside = DISAGREEMENT if group == "all" else ""
        yield _Line(DISAGREEMENT, group, beside, "epoch", "student", "diversity", points)
    for (measure, words), look in zip(RANKS.items(), ("teacher", "all"), strict=True):
        title, beside = "Teacher: rank of its features", f"Teacher's features: {words}"
        points = partial(Run.teacher_rank_by_epoch, measure=measure)
        yield _Line(title, words, beside, "epoch", "teacher", "rank", points, series_style(look))


def analysis_charts(experiments: Mapping[str, Sequence[Run]]) -> list[Chart]:
    """Figures over blocks and epochs of one data set's runs: seeds as means, several experiments beside each other.

    Over the epochs it is the first of several seeds. What was not measured on the same images says so under the figure
    that compares it.

    Args:
        experiments: name -> its runs.
    """
    charts: list[Chart] = []
    if len(experiments) == 1:
        (runs,) = experiments.values()
        together: dict[str, dict[str, tuple[_Line, Sequence[Run]]]] = {}
        for line in _lines():
            which = f" (seed {runs[0].seed})" if line.x_name == "epoch" and len(runs) > 1 else ""
            together.setdefault(f"{line.title}{which}", {})[line.name] = (line, runs)
        for title, found in together.items():
            charts += _drawn(title, found, {name: line.look for name, (line, _) in found.items() if line.look})
        return charts
    chosen = dict(list(experiments.items())[:_EXPERIMENTS])
    looks = {name: spare_style(i) for i, name in enumerate(chosen)}
    for line in _lines():
        if line.beside:
            charts += _drawn(line.beside, {name: (line, runs) for name, runs in chosen.items()}, looks, named=True)
    return charts


def named_charts(experiments: Mapping[str, Sequence[Run]]) -> dict[str, Chart]:
    """All figures of one data set's runs by names for files; the curves are of the first of several seeds.

    Args:
        experiments: name -> its runs.
    """
    found = {"groups": group_chart(experiments)}
    for name, runs in experiments.items():
        found[f"{name} classes"] = class_chart(runs)
        for stage, charts in training_charts(runs[0]).items():
            found |= {f"{name} {stage} {chart.title}": chart for chart in charts}
    found |= {f"inside {chart.title}": chart for chart in analysis_charts(experiments)}
    return {_slug(name): chart for name, chart in found.items() if chart is not None}


def _slug(name: str) -> str:
    """'DeiT-LT student Test accuracy, %' -> 'deit-lt-student-test-accuracy'."""
    return re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-.")


_Found = Mapping[str, tuple[_Line, Sequence[Run]]]  # name in the legend -> what is drawn, of which runs


def _drawn(title: str, found: _Found, looks: Mapping[str, SeriesStyle], named: bool | None = None) -> Iterator[Chart]:
    """The figure of what was measured; none, no figure."""
    seeds = {name: (line, runs if line.x_name == "block" else runs[:1]) for name, (line, runs) in found.items()}
    points = {name: _means([line.points(run) for run in runs]) for name, (line, runs) in seeds.items()}
    lines = {name: row for name, row in points.items() if row}
    if lines:
        x_name = next(line.x_name for line, _ in seeds.values())
        note = _note({name: seeds[name] for name in lines}, x_name)
        yield chart(title, lines, x_name, looks, note=note, named=named)


def _means(rows: Sequence[Points]) -> Points:
    """Means over the seeds that have it; none where the networks have not the same depth."""
    known = [row for row in rows if row]
    if len({len(row) for row in known}) != 1:
        return []
    return [(found[0][0], mean(value for _, value in found)) for found in zip(*known, strict=True)]


def _note(found: _Found, x_name: str) -> str:
    """On which images it was measured, where they differ; curves over the epochs are of other images than the rest."""
    training = {
        name: [sample for run in runs for sample in run.samples_by_epoch(line.stage, line.part)]
        for name, (line, runs) in found.items()
    }
    last = {name: [run.sample(line.stage, line.part) for run in runs] for name, (line, runs) in found.items()}
    if x_name == "block":
        return unlike(last)
    where = on_images([sample for samples in training.values() for sample in samples])
    said = f"Measured while training{where and f',{where}'}." if any(training.values()) else ""
    return unlike({name: training[name] or last[name] for name in found}) or said


def unlike(samples: Mapping[str, Sequence[Sample | None]]) -> str:
    """A sentence on what stands beside each other and was measured on different images; '' where it was on the same.

    Args:
        samples: what is compared -> the images of its parts.
    """
    named: dict[Sample, list[str]] = {}
    for name, found in samples.items():
        for sample in dict.fromkeys(found):
            if sample is not None:
                named.setdefault(sample, []).append(name)
    if len(named) < 2:
        return ""
    *few, (most, rest) = sorted(named.items(), key=lambda item: len(item[1]))
    said = [f"{', '.join(names)} on {sample}" for sample, names in few]
    said.append(f"{'the others' if len(rest) > 1 else rest[0]} on {most}")
    return f"Not measured on the same images: {'; '.join(said)}."


_GRID: Final = "Images from the most to the least frequent class, each under the classes that it was mixed of. "
_ROLLOUT: Final = (
    "How much of each patch reaches {whose} tokens through all blocks, in multiples of the even share: red is more "
    "than by chance, blue is less, white is as much",
    "Rows of images, under the true class and what the tokens answer: each image, and beside it a map of its patches "
    "for each token of {whose}, coloured by the patch's share of the attention rollout over the even share. A colour "
    "bar marks 1, as much as by chance.",
)


def pictures(run: Run) -> list[Picture]:
    """The pictures of a run's folder that say what no chart of the page does; what is no picture is left out."""
    return [picture for file, caption, alt in _files(run) if (picture := embed(file, caption, alt))]


def _files(run: Run) -> Iterator[tuple[Path, str, str]]:
    files = {stage: run.folder / stage / "views.png" for stage in STAGES}
    asked = ", and as its teacher labels it" if run.distils else ""
    seen = {"student": f"Training images, each as the student sees it{asked}",
            "teacher": "Training images, each as the teacher sees it"}  # fmt: skip
    if not files["student"].is_file():
        seen["baseline"] = "Training images, each as the plain ViT sees it"
    for stage, caption in seen.items():
        yield files[stage], caption, f"{_GRID}{caption}."
    for stage, whose in (("student", "the student's"), ("baseline", "the plain ViT's")):
        caption, alt = (words.format(whose=whose) for words in _ROLLOUT)
        yield run.folder / stage / "analysis" / "rollout.png", caption, alt


def embed(file: Path, caption: str, alt: str) -> Picture | None:
    """The picture as a data URI, as it is where it is small, else drawn smaller; None where the file holds none."""
    try:
        with Image.open(file, formats=("PNG", "WEBP", "JPEG")) as image:
            image.load()
            data, kind, size = _encoded(file.read_bytes(), image)
    except (OSError, ValueError, Image.DecompressionBombError):
        return None
    return Picture(f"data:image/{kind};base64,{base64.b64encode(data).decode()}", *size, caption, alt)


def _encoded(data: bytes, image: Image.Image) -> tuple[bytes, str, tuple[int, int]]:
    if len(data) <= _SMALL:
        return data, str(image.format).lower(), image.size
    height = round(image.height * min(1.0, _WIDEST / image.width))
    smaller = image.convert("RGB").resize((min(image.width, _WIDEST), height), Image.Resampling.LANCZOS)
    draft = io.BytesIO()
    smaller.save(draft, format="WEBP", quality=_QUALITY)
    return draft.getvalue(), "webp", smaller.size
