"""The numbers that each of the paper's claims is judged by: of one run, or of runs beside each other."""

from collections.abc import Collection, Iterator, Sequence
from typing import Final

from deitlt.report import measures
from deitlt.report.comparisons import Comparison, alike, compare_means
from deitlt.report.evidence import Evidence
from deitlt.report.samples import Sample, on_images

_EARLY: Final = "attention distance of the patches in the first two blocks"
_ACCURACIES: Final = (("all", "accuracy"), ("tail", "tail accuracy"))


def beats_vit(run: Evidence) -> Iterator[Comparison]:
    """A student's accuracy beside that of the plain ViT of the same run."""
    for group, name in _ACCURACIES:
        ours, theirs = measures.accuracy(run, "student", "avg", group), measures.accuracy(run, "baseline", "cls", group)
        if ours is not None and theirs is not None:
            yield Comparison(name, "AVG", ours, "plain ViT", theirs)


def beats_vit_runs(runs: Sequence[Evidence]) -> Iterator[Comparison]:
    """Students' accuracies beside those of students without a teacher."""
    for group, name in _ACCURACIES:
        ours = [measures.accuracy(run, "student", "avg", group) for run in runs if measures.distils(run)]
        theirs = [measures.accuracy(run, "student", "cls", group) for run in runs if not measures.distils(run)]
        yield from compare_means(f"{name}, runs beside runs", "AVG", ours, "students without a teacher", theirs)


def experts(run: Evidence) -> Iterator[Comparison]:
    """CLS beside DIST on the head, DIST beside CLS in the tail."""
    for group, first, second, tie in (("head", "cls", "dist", True), ("tail", "dist", "cls", False)):
        a, b = (measures.accuracy(run, "student", token, group) for token in (first, second))
        if a is not None and b is not None:
            yield Comparison(f"{group} accuracy", first.upper(), a, second.upper(), b, tie_holds=tie)


def foreign_views(run: Evidence) -> Iterator[Comparison]:
    """The teacher on the student's images beside the teacher on clean ones."""
    clean = measures.agreement(run, "clean")
    for kind in ("augmented", "mixed", "cropped"):
        seen = measures.agreement(run, kind)
        if clean is not None and seen is not None:
            yield Comparison("teacher's decisions that are true", f"on {kind} images", seen, "on clean ones", clean,
                             below=True)  # fmt: skip


def local_attention(run: Evidence) -> Iterator[Comparison]:
    """The early attention distance of a student beside that of the plain ViT of the same run."""
    ours, theirs = measures.early_distance(run, "student"), measures.early_distance(run, "baseline")
    samples = {measures.sample(run, stage, "attention_distance") for stage in ("student", "baseline")}
    if measures.distils(run) and len(samples) == 1 and ours is not None and theirs is not None:
        yield Comparison(_EARLY, "DeiT-LT", ours, "plain ViT", theirs, unit=" px", below=True)


def local_attention_runs(runs: Sequence[Evidence]) -> Iterator[Comparison]:
    """The early attention distance with a teacher and without."""
    taught, alone = alike(runs, measures.distils, "attention_distance")
    ours, theirs = ([measures.early_distance(run, "student") for run in side] for side in (taught, alone))
    words = f"{_EARLY}, runs beside runs"
    yield from compare_means(words, "with a teacher", ours, "without", theirs, unit=" px", below=True)


def low_rank(runs: Sequence[Evidence]) -> Iterator[Comparison]:
    """The rank of DIST's features with a SAM teacher and with one without."""
    ours, theirs = ([measures.mean_rank(run) for run in side] for side in alike(runs, measures.has_sam, "rank"))
    yield from compare_means("DIST's components for 99 % of the variance, mean of the blocks",
                             "SAM teacher", ours, "teacher without SAM", theirs, unit="", below=True)  # fmt: skip


def diverge(run: Evidence) -> Iterator[Comparison]:
    """How often the tokens differ after the last analysis while training beside the first."""
    series = measures.disagreement_by_epoch(run)
    if len(series) > 1:
        (first, early), (last, late) = series[0], series[-1]
        where = set(measures.samples_by_epoch(run, "student", "diversity"))
        yield Comparison(_differ(where), f"after {last:g} epochs", late, f"after {first:g} epochs", early)


def diverge_runs(runs: Sequence[Evidence]) -> Iterator[Comparison]:
    """How often the tokens differ with an out-of-distribution teacher and with an in-distribution one."""
    sides = alike(runs, measures.is_out_of_distribution, "diversity")
    ours, theirs = ([measures.disagreement(run) for run in side] for side in sides)
    where = {measures.sample(run, "student", "diversity") for side in sides for run in side}
    yield from compare_means(_differ(where), "out-of-distribution teacher", ours, "in-distribution teacher", theirs)


def flat_teacher(runs: Sequence[Evidence]) -> Iterator[Comparison]:
    """The sharpness of teachers with SAM and without."""
    with_sam, without = alike(runs, measures.has_sam, "sharpness", stage="teacher")
    ours, theirs = ([measures.sharpness(run) for run in side] for side in (with_sam, without))
    where = on_images({measures.sample(run, "teacher", "sharpness") for run in (*with_sam, *without)})
    yield from compare_means(f"the teacher's largest Hessian eigenvalue{where}", "with SAM", ours, "without", theirs,
                             unit="", below=True)  # fmt: skip


def _differ(where: Collection[Sample | None]) -> str:
    """'share of 256 training images on which CLS and DIST decide differently'."""
    images = on_images(where).removeprefix(" on ") or "the images"
    return f"share of {images} on which CLS and DIST decide differently"
