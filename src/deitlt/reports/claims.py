"""The paper's claims beside the numbers of finished runs: whether each holds is computed, never taken for granted."""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Final, TypeAlias

from deitlt.reports.run_data import (
    RunData,
    Sample,
    Sides,
    dig,
    epochs_in_words,
    matched_runs,
    number_in,
    on_images,
    samples_of,
)

HOLDS: Final = "holds"
IN_PART: Final = "holds in part"
FAILS: Final = "does not hold"
UNKNOWN: Final = "not measured"
_EARLY: Final = "attention distance of the patches in the first two blocks"
_ACCURACIES: Final = (("all", "accuracy"), ("tail", "tail accuracy"))
_BESIDE: Final = ", runs beside runs"
# How the keys begin that make the difference that a claim is about.
_TRANSFORMS: Final = ("transforms", "views")  # of a recipe; the second is how older runs called it
_TEACHING: Final = ("teacher.", "student.distillation.", "student.model.distilled.", "student.teacher_input.",
                    *(f"student.{node}.teacher_sees." for node in _TRANSFORMS))  # fmt: skip
_SAM: Final = ("teacher.sam.",)
_TEACHERS_IMAGES: Final = (*(f"teacher.{node}." for node in _TRANSFORMS), "teacher.statistics.")


@dataclass(frozen=True)
class Comparison:
    """One number that should be above (or below) another.

    what: of what, such as 'tail accuracy'. unit: after both. of: what several of the same are counted as. note: a
    sentence on the runs that were compared, or nothing.
    """

    what: str
    name: str
    value: float
    than_name: str
    than: float
    unit: str = " %"
    below: bool = False
    tie_holds: bool = False
    of: str = "runs"
    note: str = ""

    @property
    def ties(self) -> bool:
        """Whether the two numbers are equal as they are shown."""
        return value_text(self.value) == value_text(self.than)

    @property
    def holds(self) -> bool:
        """Whether it is as the paper says; two equal numbers are not, unless 'no worse' is all that is said."""
        return self.tie_holds if self.ties else (self.value < self.than) == self.below


@dataclass(frozen=True)
class Claim:
    """paper: what it says. needs: what to do where nothing could be compared. within: one run's numbers.

    across: numbers of several runs of one data set, such as those with and without SAM.
    halves: whether either tells one half of what the paper says.
    """

    title: str
    paper: str
    needs: str
    within: Callable[[RunData], Iterator[Comparison]] | None = None
    across: Callable[[Sequence[RunData]], Iterator[Comparison]] | None = None
    halves: bool = False


@dataclass(frozen=True)
class Finding:
    """A claim beside the numbers. verdict: 'holds', 'holds in part', 'does not hold' or 'not measured'.

    notes: sentences on the runs that were compared.
    """

    claim: Claim
    verdict: str
    numbers: Sequence[str]
    notes: Sequence[str] = ()

    @property
    def slug(self) -> str:
        """The verdict as a name in the page's style."""
        return self.verdict.replace(" ", "-")


_Key: TypeAlias = tuple[str, str, str, str]


def findings(runs: Sequence[RunData]) -> list[Finding]:
    """Each claim beside the runs of one data set; the seeds of one experiment are told as means."""
    return [_finding(claim, runs) for claim in CLAIMS]


def _finding(claim: Claim, runs: Sequence[RunData]) -> Finding:
    gathered: dict[_Key, list[Comparison]] = {}
    several = len({run.name for run in runs}) > 1
    within = [(run.name if several else "", found) for run in runs for found in (claim.within or _nothing)(run)]
    across = [("", found) for found in (claim.across or _nothing)(runs)]
    for name, found in (*within, *across):
        gathered.setdefault((name, found.what, found.name, found.than_name), []).append(found)
    told: dict[tuple[str, str], list[str]] = {}
    for (name, what, *_), comparisons in gathered.items():
        told.setdefault((name, what), []).append(_in_words(comparisons))
    every = [found for _, found in (*within, *across)]
    notes, verdict = [note for note in dict.fromkeys(found.note for found in every) if note], _verdict(every)
    if claim.halves and every and not (within and across):
        verdict = IN_PART if verdict == HOLDS else verdict
        notes.append(f"Only one half of it was measured; for the other: {claim.needs}.")
    # 'digits, tail accuracy: DIST 80.7 %, CLS 40.7 %, as claimed in 3 of 3 runs'; several about the same in one.
    lines = [f"{f'{name}, ' if name else ''}{what}: {'; '.join(words)}" for (name, what), words in told.items()]
    return Finding(claim, verdict, lines, notes)


def _nothing(_: object) -> Iterator[Comparison]:
    yield from ()


def _verdict(found: Sequence[Comparison]) -> str:
    """A tie may be no worse, but where nothing differs as the paper says, no part of the claim was seen."""
    if not found:
        return UNKNOWN
    if not any(comparison.holds and not comparison.ties for comparison in found):
        return FAILS
    return HOLDS if all(comparison.holds for comparison in found) else IN_PART


def _in_words(found: Sequence[Comparison]) -> str:
    """'DIST 80.7 %, CLS 40.7 %, as claimed'; of several runs the means, and in how many of them it is so."""
    first = found[0]
    ours, theirs = mean(c.value for c in found), mean(c.than for c in found)
    if len(found) > 1:
        equal = sum(c.ties for c in found)  # a tie that is no worse is not counted among those that are as claimed
        held = f", as claimed in {sum(c.holds and not c.ties for c in found)} of {len(found)} {first.of}"
        held += f", equal in {equal}" if equal else ""
    elif first.ties:
        held = ", equal, so no worse" if first.tie_holds else ", equal, not as claimed"
    else:
        held = ", as claimed" if first.holds else ", not as claimed"
    return f"{first.name} {value_text(ours)}{first.unit}, {first.than_name} {value_text(theirs)}{first.unit}{held}"


def value_text(value: float) -> str:
    """A number of a comparison as it is shown."""
    return f"{value:.1f}" if abs(value) >= 1 or value == 0 else f"{value:.2g}"


def _compare_means(
    what: str,
    name: str,
    ours: Sequence[float | None],
    than_name: str,
    theirs: Sequence[float | None],
    unit: str = " %",
    below: bool = False,
    note: str = "",
) -> Iterator[Comparison]:
    """The mean of some runs beside that of others, where both were measured."""
    a, b = ([value for value in side if value is not None] for side in (ours, theirs))
    if a and b:
        yield Comparison(what, name, mean(a), than_name, mean(b), unit, below, note=note)


def _alike(
    runs: Sequence[RunData],
    has: Callable[[RunData], bool | None],
    about: Sequence[str],
    part: str,
    stage: str = "student",
) -> Sides:
    """The runs that have something, and the matched ones that have not, where a part was measured on the same images.

    A rank is at most the number of images, and test images are no training images. Of several samples that both sides
    have it is that of the most runs.

    Args:
        runs: of one data set.
        has: whether a run has it; None where nobody knows.
        about: how the keys begin that make the difference, such as 'teacher.sam.'.
        part: of an analysis.
        stage: whose analysis.
    """
    sides = [[run for run in runs if has(run) is wanted] for wanted in (True, False)]
    ours, theirs = ([run.sample(stage, part) for run in side] for side in sides)
    shared = [sample for sample in ours if sample is not None and sample in theirs]
    chosen = max(shared, key=[*ours, *theirs].count, default=None)
    if chosen is None:
        return Sides([], [])
    first, second = ([run for run in side if run.sample(stage, part) == chosen] for side in sides)
    return matched_runs(first, second, about)


def is_taught(run: RunData) -> bool | None:
    """Whether a teacher taught the student; None without a student, and of a control, whose tokens learn the labels."""
    control = run.distils and dig(run.stages, "student", "recipe", "distillation", "kind") == "none"
    return run.distils if run.metrics.get("student") and not control else None


def has_sam(run: RunData) -> bool | None:
    """Whether the student's teacher was trained with SAM; None where it has none, or nobody wrote down its recipe."""
    enabled = dig(run.stages, "teacher", "recipe", "sam", "enabled")
    return None if enabled is None or not run.distils else bool(enabled)


def is_out_of_distribution(run: RunData) -> bool | None:
    """Whether the teacher was trained on other transforms or mixing than the student; None where that is not known."""
    recipes = [dig(run.stages, stage, "recipe") or {} for stage in ("teacher", "student")]
    teacher, student = (next((recipe[node] for node in _TRANSFORMS if node in recipe), None) for recipe in recipes)
    if not run.distils or teacher is None or student is None:
        return None
    return any(dig(teacher, part) != dig(student, part) for part in ("train", "mixing"))


def _beats_vit(run: RunData) -> Iterator[Comparison]:
    """A student's accuracy beside that of the plain ViT of the same run, and where it leads by most."""
    found = []
    for group, name in _ACCURACIES:
        ours, theirs = run.accuracy("student", "avg", group), run.accuracy("baseline", "cls", group)
        if ours is not None and theirs is not None:
            found.append(Comparison(name, "AVG", ours, "plain ViT", theirs))
    yield from [*found, *_leads(found)]


def _beats_vit_runs(runs: Sequence[RunData]) -> Iterator[Comparison]:
    """Students' accuracies beside those of plain ViTs that are runs of their own."""
    taught, alone = ([run for run in runs if is_taught(run) is wanted] for wanted in (True, False))
    with_teacher, without, note = matched_runs(taught, alone, _TEACHING)
    found: list[Comparison] = []
    for group, name in _ACCURACIES:
        ours = [run.accuracy("student", "avg", group) for run in with_teacher]
        theirs = [run.accuracy("student", "cls", group) for run in without]
        found += _compare_means(f"{name}{_BESIDE}", "AVG", ours, "students without a teacher", theirs, note=note)
    yield from [*found, *_leads(found)]


def _leads(found: Sequence[Comparison]) -> Iterator[Comparison]:
    """Whether the lead is greatest in the tail, from the comparisons of `_ACCURACIES`, where there is a lead."""
    if len(found) == len(_ACCURACIES):
        over_all, in_tail = (comparison.value - comparison.than for comparison in found)
        if max(over_all, in_tail) > 0:
            what = f"lead{_BESIDE if _BESIDE in found[0].what else ''}"
            yield Comparison(what, "in the tail", in_tail, "over all images", over_all, unit=" points")


def _experts(run: RunData) -> Iterator[Comparison]:
    """CLS beside DIST on the head, DIST beside CLS in the tail."""
    for group, first, second, tie in (("head", "cls", "dist", True), ("tail", "dist", "cls", False)):
        a, b = (run.accuracy("student", token, group) for token in (first, second))
        if a is not None and b is not None:
            yield Comparison(f"{group} accuracy", first.upper(), a, second.upper(), b, tie_holds=tie)


def _out_of_distribution(run: RunData) -> Iterator[Comparison]:
    """The teacher on the student's images beside the teacher on clean ones: percent on which it is right."""
    asked = next((a["agreement"] for a in run.analyses.values() if number_in(a, "agreement", "clean", "all")), None)
    for kind in ("augmented", "mixed", "cropped"):
        clean, seen = (number_in(asked, which, "all") for which in ("clean", kind))
        if clean is not None and seen is not None:
            yield Comparison("teacher's decisions that are true", f"on {kind} images", seen, "on clean ones", clean,
                             below=True)  # fmt: skip


def _early_distance(run: RunData, stage: str) -> float | None:
    """Mean attention distance of the patches in pixels, mean of the first two blocks, which the paper plots."""
    blocks = run.by_block(stage, "attention_distance", "patches")
    return mean(blocks[:2]) if blocks else None


def _local_attention(run: RunData) -> Iterator[Comparison]:
    """The early attention distance of a student beside that of the plain ViT of the same run."""
    ours, theirs = _early_distance(run, "student"), _early_distance(run, "baseline")
    samples = {run.sample(stage, "attention_distance") for stage in ("student", "baseline")}
    if is_taught(run) and len(samples) == 1 and ours is not None and theirs is not None:
        yield Comparison(_EARLY, "DeiT-LT", ours, "plain ViT", theirs, unit=" px", below=True)


def _local_attention_runs(runs: Sequence[RunData]) -> Iterator[Comparison]:
    """The early attention distance with a teacher and without."""
    *sides, note = _alike(runs, is_taught, _TEACHING, "attention_distance")
    ours, theirs = ([_early_distance(run, "student") for run in side] for side in sides)
    yield from _compare_means(f"{_EARLY}{_BESIDE}", "with a teacher", ours, "without", theirs, " px", True, note)


def _low_rank(runs: Sequence[RunData]) -> Iterator[Comparison]:
    """The rank of DIST's features in each block, with a SAM teacher and with one without."""
    *sides, note = _alike(runs, has_sam, _SAM, "rank")
    ours, theirs = ([run.by_block("student", "components", "dist") for run in side] for side in sides)
    if len({len(blocks) for blocks in (*ours, *theirs)}) == 1:
        for a, b in zip(zip(*ours, strict=True), zip(*theirs, strict=True), strict=True):
            yield Comparison("DIST's components for 99 % of the variance, mean of the blocks", "SAM teacher", mean(a),
                             "teacher without SAM", mean(b), unit="", below=True, of="blocks", note=note)  # fmt: skip


def _diverge(run: RunData) -> Iterator[Comparison]:
    """How often the tokens differ after the last analysis while training beside the first."""
    series = run.disagreement_by_epoch()
    if len(series) > 1:
        (first, early), (last, late) = series[0], series[-1]
        compared = [analysis for analysis in run.history["student"] if analysis["epoch"] in (first, last)]
        where = {samples_of(analysis).get("diversity") for analysis in compared}
        yield Comparison(_differ(where), f"after {epochs_in_words(last)}", late,
                         f"after {epochs_in_words(first)}", early)  # fmt: skip


def _diverge_runs(runs: Sequence[RunData]) -> Iterator[Comparison]:
    """How often the tokens differ with an out-of-distribution teacher and with an in-distribution one."""
    *sides, note = _alike(runs, is_out_of_distribution, _TEACHERS_IMAGES, "diversity")
    ours, theirs = (
        [number_in(run.analyses.get("student"), "diversity", "disagreement", "all") for run in side] for side in sides
    )
    what = _differ({run.sample("student", "diversity") for side in sides for run in side})
    yield from _compare_means(what, "out-of-distribution teacher", ours, "in-distribution teacher", theirs, note=note)


def _flat_teacher(runs: Sequence[RunData]) -> Iterator[Comparison]:
    """The sharpness of teachers with SAM and without, over all images and over the tail's."""
    with_sam, without, note = _alike(runs, has_sam, [*_SAM, "student."], "sharpness", stage="teacher")
    where = on_images({run.sample("teacher", "sharpness") for run in (*with_sam, *without)})
    for group, which in (("all", ""), ("tail", ", the tail's alone")):
        ours, theirs = (
            [number_in(run.analyses.get("teacher"), "sharpness", group, "eigenvalue") for run in side]
            for side in (with_sam, without)
        )
        words = f"the teacher's largest Hessian eigenvalue{where}{which}"
        yield from _compare_means(words, "with SAM", ours, "without", theirs, "", True, note)


def _differ(where: Collection[Sample | None]) -> str:
    """'share of 256 training images on which CLS and DIST decide differently'."""
    images = on_images(where).removeprefix(" on ") or "the images"
    return f"share of {images} on which CLS and DIST decide differently"


CLAIMS: Final = (
    Claim(
        "A CNN teacher lets a transformer learn the tail",
        "Distilled from a small CNN, a ViT trained from scratch beats the ViT that is trained alike without a "
        "teacher, most of all in the tail.",
        "train the plain ViT, too: stages=[teacher,student,baseline]",
        _beats_vit,
        _beats_vit_runs,
    ),
    Claim(
        "The tokens become experts: CLS for the head, DIST for the tail",
        "With deferred re-weighting of the distillation loss, DIST becomes the tail's expert; CLS stays the head's.",
        "train a student with both tokens",
        _experts,
    ),
    Claim(
        "The student's images are out of the teacher's distribution",
        "The teacher is trained on weak transforms, so it errs more on the student's strong ones.",
        "analyse the run: deitlt analyze",
        _out_of_distribution,
    ),
    Claim(
        "Distilling so makes early attention local",
        "Distilled from a CNN on out-of-distribution images, the patches attend more locally in the early blocks.",
        "analyse student and plain ViT on the same images: deitlt analyze",
        _local_attention,
        _local_attention_runs,
    ),
    Claim(
        "A flat teacher hands on low-rank features",
        "Of a teacher trained with SAM the student inherits, through DIST, features of lower rank in every block.",
        "report two runs together that deitlt analyze measured on the same images, one of them with "
        "teacher.sam.enabled=false",
        across=_low_rank,
    ),
    Claim(
        "The two tokens diverge",
        "CLS and DIST grow apart while the student trains, and more so with an out-of-distribution teacher.",
        "analyse at least twice while training (analysis.every=1), and report it beside a run with method=no_ood that "
        "was analysed on the same images",
        _diverge,
        _diverge_runs,
        halves=True,
    ),
    Claim(
        "SAM finds a flatter teacher",
        "Sharpness-aware minimisation leads the teacher to a flatter minimum, in the tail as well.",
        "report two runs together whose teachers deitlt analyze measured on equally many images, one of them with "
        "teacher.sam.enabled=false",
        across=_flat_teacher,
    ),
)
