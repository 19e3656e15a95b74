"""The numbers that each of the paper's claims is judged by: of one run, or of runs beside each other."""

from collections.abc import Collection, Iterator, Sequence
from statistics import mean
from typing import Final

from deitlt.reports import measures
from deitlt.reports.comparisons import Comparison, alike, compare_means
from deitlt.reports.evidence import Evidence
from deitlt.reports.nearest import nearest
from deitlt.reports.samples import Sample, epochs_in_words, on_images, samples_of

_EARLY: Final = "attention distance of the patches in the first two blocks"
_ACCURACIES: Final = (("all", "accuracy"), ("tail", "tail accuracy"))
_BESIDE: Final = ", runs beside runs"
# How the keys begin that make the difference that a claim is about.
_TEACHING: Final = ("teacher.", "student.distillation.", "student.model.distilled.", "student.teacher_view.",
                    "student.views.teacher_sees.")  # fmt: skip
_SAM: Final = ("teacher.sam.",)
_FOREIGN: Final = ("teacher.views.", "teacher.statistics.")


def beats_vit(run: Evidence) -> Iterator[Comparison]:
    """A student's accuracy beside that of the plain ViT of the same run, and where it leads by most."""
    found = []
    for group, name in _ACCURACIES:
        ours, theirs = measures.accuracy(run, "student", "avg", group), measures.accuracy(run, "baseline", "cls", group)
        if ours is not None and theirs is not None:
            found.append(Comparison(name, "AVG", ours, "plain ViT", theirs))
    yield from [*found, *_leads(found)]


def beats_vit_runs(runs: Sequence[Evidence]) -> Iterator[Comparison]:
    """Students' accuracies beside those of plain ViTs that are runs of their own."""
    taught, alone = ([run for run in runs if measures.is_taught(run) is wanted] for wanted in (True, False))
    with_teacher, without, note = nearest(taught, alone, _TEACHING)
    found: list[Comparison] = []
    for group, name in _ACCURACIES:
        ours = [measures.accuracy(run, "student", "avg", group) for run in with_teacher]
        theirs = [measures.accuracy(run, "student", "cls", group) for run in without]
        found += compare_means(f"{name}{_BESIDE}", "AVG", ours, "students without a teacher", theirs, note=note)
    yield from [*found, *_leads(found)]


def _leads(found: Sequence[Comparison]) -> Iterator[Comparison]:
    """Whether the lead is greatest in the tail, from the comparisons of `_ACCURACIES`, where there is a lead."""
    if len(found) == len(_ACCURACIES):
        over_all, in_tail = (comparison.value - comparison.than for comparison in found)
        if max(over_all, in_tail) > 0:
            what = f"lead{_BESIDE if _BESIDE in found[0].what else ''}"
            yield Comparison(what, "in the tail", in_tail, "over all images", over_all, unit=" points")


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
    if measures.is_taught(run) and len(samples) == 1 and ours is not None and theirs is not None:
        yield Comparison(_EARLY, "DeiT-LT", ours, "plain ViT", theirs, unit=" px", below=True)


def local_attention_runs(runs: Sequence[Evidence]) -> Iterator[Comparison]:
    """The early attention distance with a teacher and without."""
    taught, alone, note = alike(runs, measures.is_taught, _TEACHING, "attention_distance")
    ours, theirs = ([measures.early_distance(run, "student") for run in side] for side in (taught, alone))
    yield from compare_means(
        f"{_EARLY}{_BESIDE}", "with a teacher", ours, "without", theirs, unit=" px", below=True, note=note
    )


def low_rank(runs: Sequence[Evidence]) -> Iterator[Comparison]:
    """The rank of DIST's features in each block, with a SAM teacher and with one without."""
    with_sam, without, note = alike(runs, measures.has_sam, _SAM, "rank")
    ours, theirs = ([measures.by_block(run, "student", "components", "dist") for run in side]
                    for side in (with_sam, without))  # fmt: skip
    if len({len(blocks) for blocks in (*ours, *theirs)}) == 1:
        for a, b in zip(zip(*ours, strict=True), zip(*theirs, strict=True), strict=True):
            yield Comparison("DIST's components for 99 % of the variance, mean of the blocks", "SAM teacher", mean(a),
                             "teacher without SAM", mean(b), unit="", below=True, of="blocks", note=note)  # fmt: skip


def diverge(run: Evidence) -> Iterator[Comparison]:
    """How often the tokens differ after the last analysis while training beside the first."""
    series = measures.disagreement_by_epoch(run)
    if len(series) > 1:
        (first, early), (last, late) = series[0], series[-1]
        compared = [analysis for analysis in run.history["student"] if analysis["epoch"] in (first, last)]
        where = {samples_of(analysis).get("diversity") for analysis in compared}
        yield Comparison(_differ(where), f"after {epochs_in_words(last)}", late,
                         f"after {epochs_in_words(first)}", early)  # fmt: skip


def diverge_runs(runs: Sequence[Evidence]) -> Iterator[Comparison]:
    """How often the tokens differ with an out-of-distribution teacher and with an in-distribution one."""
    *sides, note = alike(runs, measures.is_out_of_distribution, _FOREIGN, "diversity")
    ours, theirs = ([measures.disagreement(run) for run in side] for side in sides)
    where = {measures.sample(run, "student", "diversity") for side in sides for run in side}
    yield from compare_means(
        _differ(where), "out-of-distribution teacher", ours, "in-distribution teacher", theirs, note=note
    )


def flat_teacher(runs: Sequence[Evidence]) -> Iterator[Comparison]:
    """The sharpness of teachers with SAM and without, over all images and over the tail's."""
    with_sam, without, note = alike(runs, measures.has_sam, [*_SAM, "student."], "sharpness", stage="teacher")
    where = on_images({measures.sample(run, "teacher", "sharpness") for run in (*with_sam, *without)})
    for group, which in (("all", ""), ("tail", ", the tail's alone")):
        ours, theirs = ([measures.sharpness(run, group) for run in side] for side in (with_sam, without))
        words = f"the teacher's largest Hessian eigenvalue{where}{which}"
        yield from compare_means(words, "with SAM", ours, "without", theirs, unit="", below=True, note=note)


def _differ(where: Collection[Sample | None]) -> str:
    """'share of 256 training images on which CLS and DIST decide differently'."""
    images = on_images(where).removeprefix(" on ") or "the images"
    return f"share of {images} on which CLS and DIST decide differently"
