"""The figures of the page: accuracy by class, training curves, what was measured inside the networks, pictures."""

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Final

from markupsafe import Markup
from PIL import Image

from deitlt.reports.analysis_figures import ATTENTION, COSINE, DISAGREEMENT, RANKS, TOKEN_WORDS, by_block
from deitlt.reports.class_figures import per_class_accuracy
from deitlt.reports.figures import Points, SeriesStyle, line_panels, series_style, spare_style, svg_of
from deitlt.reports.run_data import STAGES, RunData, Sample, dig, on_images, unlike
from deitlt.reports.tables import GROUPS

STAGE_NAMES: Final = {"teacher": "Teacher", "student": "Student", "baseline": "Plain ViT"}
DRAWN: Final = ("teacher", "CLS", "DIST", "AVG", "plain ViT")  # averages' and fusions' bars would hide the experts'
_MEASURES: Final = {"attention_distance": ATTENTION, **RANKS}
_COMPARED: Final = {
    "attention_distance": ("patches", "dist", "cls"),  # the paper's claim is about the patches
    "components": ("dist", "cls"),
    "effective": ("dist", "cls"),
}
_EXPERIMENTS: Final = 6  # looks for experiments that stand beside each other; more experiments are told in words
_MOST_POINTS: Final = 240  # of a line that are drawn
_SPLITS: Final = {"val": "validation", "test": "test"}
_SMALL, _WIDEST, _QUALITY = 150_000, 1400, 82  # a picture of more bytes is encoded again, at most so wide


@dataclass(frozen=True)
class Chart:
    """A figure with its words. svg: also says what it shows, for who cannot see it. note: a sentence under it."""

    title: str
    svg: Markup
    note: str = ""


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
    return Chart(f"{title[0].upper()}{title[1:]}", svg_of(figure, f"{title}. {said}"), note)


def class_chart(runs: Sequence[RunData]) -> Chart | None:
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
    means = ", ".join(f"{name} {mean(v for v in values if v is not None):.1f} %" for name, values in recalls.items()
                      if any(v is not None for v in values))  # fmt: skip
    title = f"Share of each class's test images that is answered right, in percent{over}"
    return Chart(f"{title}.", svg_of(figure, f"{title}, from the most to the least frequent class. Means: {means}."))


def training_charts(run: RunData) -> dict[str, list[Chart]]:
    """Stage's name -> its curves: loss, accuracies that were watched, learning rate, rho; without curves absent."""
    charts = {STAGE_NAMES[stage]: list(_stage_charts(run, stage)) for stage in STAGES if run.curves.get(stage)}
    return {name: found for name, found in charts.items() if found}


def _stage_charts(run: RunData, stage: str) -> Iterator[Chart]:
    curves = run.curves[stage]
    start = dig(run.stages, stage, "recipe", "drw", "start_epoch")
    mark = (float(start), "DRW") if start is not None else None
    if lines := _loss(curves, stage):
        yield chart("training loss", lines, "epoch", {"Student": series_style("all")}, mark)
    for split, words in _SPLITS.items():
        for group, what in (("all", "accuracy"), ("tail", "tail accuracy")):
            if lines := _accuracies(curves, stage, split, group):
                yield chart(f"{words} {what}, %", lines, "epoch", mark=mark)
    rhos = curves.get("train/rho", [])
    values = {value for _, value in rhos}
    throughout = f" (SAM's rho: {values.pop():.3g} throughout)" if len(values) == 1 else ""
    if len(rates := curves.get("train/lr", [])) > 1:
        yield chart(f"learning rate{throughout}", {"all": rates}, "epoch")
    if len(values) > 1:
        yield chart("SAM's rho", {"all": rhos}, "epoch")


def _loss(curves: Mapping[str, Points], stage: str) -> dict[str, Points]:
    """Each token's loss where both learn, else the loss."""
    parts = {token.upper(): curves.get(f"train/loss_{token}", []) for token in ("cls", "dist")}
    if all(any(value for _, value in part) for part in parts.values()):
        return parts
    found = curves.get("train/loss", [])
    return {STAGE_NAMES[stage]: found} if len(found) > 1 else {}


def _accuracies(curves: Mapping[str, Points], stage: str, split: str, group: str) -> dict[str, Points]:
    """What was watched at two epochs or more: a single point is in the table of results."""
    named = {f"{split}/{token}/{group}": token.upper() for token in ("cls", "dist", "avg")}
    if stage == "baseline":
        named = {f"{split}/cls/{group}": "plain ViT"}
    named[f"{split}/{group}"] = "teacher"
    return {name: points for column, name in named.items() if len(points := curves.get(column, [])) > 1}


def analysis_charts(experiments: Mapping[str, Sequence[RunData]]) -> list[Chart]:
    """Figures over blocks and epochs of one data set's runs: seeds as means, several experiments beside each other.

    What was not measured on the same images says so under the figure that compares it.

    Args:
        experiments: name -> its runs.
    """
    if len(experiments) == 1:
        (runs,) = experiments.values()
        return [*_one(runs), *_over_epochs(runs[0], len(runs))]
    return list(_beside(dict(list(experiments.items())[:_EXPERIMENTS])))


def _one(runs: Sequence[RunData]) -> Iterator[Chart]:
    """One experiment: its tokens, and the plain ViT that was trained with it."""
    for measure, title in _MEASURES.items():
        found = {words: _blocks(runs, "student", measure, token) for token, words in TOKEN_WORDS.items()}
        lines = {words: points for words, points in found.items() if points}
        stages = {"student": "the student"} if lines else {}
        if points := _blocks(runs, "baseline", measure, "cls"):
            lines["plain ViT, CLS"] = points
            stages["baseline"] = "the plain ViT"
        if lines:
            note = unlike({words: _samples(runs, stage, measure) for stage, words in stages.items()})
            yield chart(f"{title}, by block", lines, "block", note=note)
    cosines = [dig(run.analyses, "student", "diversity", "per_block") for run in runs]
    if points := _mean_points([[float(v) for v in row] for row in cosines if row]):
        yield chart(f"{COSINE}, by block", {"all": points}, "block")


def _over_epochs(run: RunData, runs: int) -> Iterator[Chart]:
    """How the tokens grew apart while they were trained, and the teacher's rank; of several seeds the first."""
    which = f" (seed {run.run.seed})" if runs > 1 else ""
    series = {group: run.disagreement_by_epoch(group) for group in GROUPS}
    if lines := {group: points for group, points in series.items() if len(points) > 1}:
        note = _while_training({"": run.samples_by_epoch("student", "diversity")})
        yield chart(f"{DISAGREEMENT}{which}", lines, "epoch", note=note)
    ranks = {words: run.teacher_rank_by_epoch(measure) for measure, words in RANKS.items()}
    if lines := {words: points for words, points in ranks.items() if points}:
        looks = dict(zip(RANKS.values(), (series_style("teacher"), series_style("all")), strict=True))
        note = _while_training({"": run.samples_by_epoch("teacher", "rank")})
        yield chart(f"Teacher: rank of its features{which}", lines, "epoch", looks, note=note)


def _beside(experiments: Mapping[str, Sequence[RunData]]) -> Iterator[Chart]:
    """Several experiments: a figure for each measure and token, a line for each experiment."""
    looks = {name: spare_style(i) for i, name in enumerate(experiments)}

    def compared(
        title: str, found: Mapping[str, Points], samples: Mapping[str, Sequence[Sample]], x: str, note: str = ""
    ) -> Iterator[Chart]:
        """A line for each experiment that measured it, in the experiment's own colour; none, no figure."""
        lines = {name: points for name, points in found.items() if points}
        if lines:
            note = unlike({name: samples[name] for name in lines}) or note
            yield chart(title, lines, x, looks, note=note, named=True)

    for measure, title in _MEASURES.items():
        for token in _COMPARED[measure]:
            found = {name: _blocks(runs, "student", measure, token) for name, runs in experiments.items()}
            samples = {name: _samples(runs, "student", measure) for name, runs in experiments.items()}
            yield from compared(f"{TOKEN_WORDS[token]}: {title}, by block", found, samples, "block")
    first = {name: runs[0] for name, runs in experiments.items()}
    grown = {name: run.disagreement_by_epoch() for name, run in first.items()}
    samples = {name: run.samples_by_epoch("student", "diversity") for name, run in first.items()}
    curves = {name: points if len(points) > 1 else [] for name, points in grown.items()}
    yield from compared(DISAGREEMENT, curves, samples, "epoch", _while_training(samples))
    for measure, words in RANKS.items():
        ranks = {name: run.teacher_rank_by_epoch(measure) for name, run in first.items()}
        trained = {name: run.samples_by_epoch("teacher", "rank") for name, run in first.items()}
        samples = {name: trained[name] or _samples([run], "teacher", "rank") for name, run in first.items()}
        yield from compared(f"Teacher's features: {words}", ranks, samples, "epoch", _while_training(trained))


def _while_training(samples: Mapping[str, Sequence[Sample]]) -> str:
    """Curves over the epochs are of other images than what was measured after the last."""
    where = on_images([sample for found in samples.values() for sample in found])
    return f"Measured while training{where and f',{where}'}." if any(samples.values()) else ""


def _samples(runs: Sequence[RunData], stage: str, measure: str) -> list[Sample]:
    part = measure if measure in ("attention_distance", "diversity") else "rank"
    return [found for run in runs if (found := run.sample(stage, part)) is not None]


def _blocks(runs: Sequence[RunData], stage: str, measure: str, token: str) -> Points:
    return _mean_points([row for run in runs if (row := run.by_block(stage, measure, token))])


def _mean_points(rows: Sequence[Sequence[float]]) -> Points:
    """Means over the seeds by block; none where the networks have not the same depth."""
    if len({len(row) for row in rows}) != 1:
        return []
    return by_block([mean(values) for values in zip(*rows, strict=True)])


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return mean(known) if known else None


def _thinned(points: Points) -> Points:
    """Not more points than can be seen, the last among them."""
    every = -(-len(points) // _MOST_POINTS)
    kept = list(points[::every])
    return kept if kept[-1] == points[-1] else [*kept, points[-1]]


def _in_words(name: str, points: Points, x_name: str) -> str:
    """'CLS: 2.24 at epoch 1, 0.56 at epoch 150.'."""
    ends = [points[0]] if len(points) == 1 else [points[0], points[-1]]
    return f"{name}: {', '.join(f'{value:.3g} at {x_name} {at:g}' for at, value in ends)}."


# File in a run's folder -> its caption. Of files with the same caption, the first that is there is shown.
_STUDENT: Final = "Training images, the student's view of each, and the view of that which the teacher labels"
_ALONE: Final = "Training images, and the student's view of each"
_TEACHER: Final = "Training images, and the teacher's view of each"
_BASELINE: Final = "Training images, and the plain ViT's view of each"
_VIEWS: Final = {
    **dict.fromkeys(("student/views.png", "views.png"), _STUDENT),
    **dict.fromkeys(("teacher/views.png", "teacher_views.png"), _TEACHER),
    "baseline/views.png": _BASELINE,
}
_GRID: Final = "Images from the most to the least frequent class, each under the classes that it was mixed of. "
_ROLLOUT: Final = (
    "How much of each patch reaches {whose} tokens through all blocks, in multiples of the even share: red is more "
    "than by chance, blue is less, white is as much",
    "Rows of images, under the true class and what the tokens answer: each image, and beside it a map of its patches "
    "for each token of {whose}, coloured by the patch's share of the attention rollout over the even share. A colour "
    "bar marks 1, as much as by chance.",
)
_WHOSE: Final = {"student": "the student's", "baseline": "the plain ViT's"}


def pictures(folder: Path, taught: bool = True) -> list[Picture]:
    """The pictures of a run's folder that say what no chart of the page does; what is no picture is left out.

    Args:
        folder: the run's.
        taught: whether its student has a teacher.
    """
    return [picture for file, caption, alt in _files(folder, taught) if (picture := embed(file, caption, alt))]


def embed(file: Path, caption: str, alt: str) -> Picture | None:
    """The picture as a data URI, as it is where it is small, else drawn smaller; None where the file holds none."""
    try:
        with Image.open(file, formats=("PNG", "WEBP", "JPEG")) as image:
            image.load()
            data, kind, size = _encoded(file.read_bytes(), image)
    except (OSError, ValueError, Image.DecompressionBombError):
        return None
    return Picture(f"data:image/{kind};base64,{base64.b64encode(data).decode()}", *size, caption, alt)


def _files(folder: Path, taught: bool) -> Iterator[tuple[Path, str, str]]:
    views = {caption: folder / name for name, caption in reversed(_VIEWS.items()) if (folder / name).is_file()}
    for caption in (_STUDENT, _TEACHER, _BASELINE):
        if caption in views and not (caption == _BASELINE and _STUDENT in views):
            words = _ALONE if caption == _STUDENT and not taught else caption
            yield views[caption], words, f"{_GRID}{words}."
    for stage, whose in _WHOSE.items():
        drawn = sorted(folder.glob(f"{stage}/analysis/*rollout*.png"))
        for file in drawn[-1:]:  # the last epoch's
            caption, alt = (words.format(whose=whose) for words in _ROLLOUT)
            yield file, caption, alt


def _encoded(data: bytes, image: Image.Image) -> tuple[bytes, str, tuple[int, int]]:
    if len(data) <= _SMALL:
        return data, str(image.format).lower(), image.size
    height = round(image.height * min(1.0, _WIDEST / image.width))
    smaller = image.convert("RGB").resize((min(image.width, _WIDEST), height), Image.Resampling.LANCZOS)
    draft = io.BytesIO()
    smaller.save(draft, format="WEBP", quality=_QUALITY)
    return draft.getvalue(), "webp", smaller.size
