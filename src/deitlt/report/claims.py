"""What the paper claims, and whether it holds in these runs: computed from their numbers, never taken for granted."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Final, TypeAlias

from deitlt.report import measures
from deitlt.report.evidence import Evidence

HOLDS, IN_PART, FAILS, UNKNOWN = "holds", "holds in part", "does not hold", "not measured"


@dataclass(frozen=True)
class Comparison:
    """One number that should be above (or below) another. what: of what, such as 'tail accuracy'. unit: after both."""

    what: str
    name: str
    value: float
    than_name: str
    than: float
    unit: str = " %"
    below: bool = False
    tie_holds: bool = False

    @property
    def ties(self) -> bool:
        """Whether the two numbers are equal as they are shown."""
        return _value(self.value) == _value(self.than)

    @property
    def holds(self) -> bool:
        """Whether it is as the paper says; two equal numbers are not, unless 'no worse' is all that is said."""
        if self.ties:
            return self.tie_holds
        return (self.value < self.than) == self.below


Within: TypeAlias = Callable[[Evidence], Iterator[Comparison]]
Across: TypeAlias = Callable[[Sequence[Evidence]], Iterator[Comparison]]


@dataclass(frozen=True)
class Claim:
    """paper: what it says. needs: what to do where nothing could be compared. within: one run's numbers.

    across: numbers of several runs of one data set, such as those with and without SAM.
    """

    title: str
    paper: str
    needs: str
    within: Within | None = None
    across: Across | None = None


@dataclass(frozen=True)
class Finding:
    """A claim beside the numbers. verdict: 'holds', 'holds in part', 'does not hold' or 'not measured'."""

    claim: Claim
    verdict: str
    numbers: Sequence[str]

    @property
    def slug(self) -> str:
        """The verdict as a name in the page's style."""
        return self.verdict.replace(" ", "-")


def findings(runs: Sequence[Evidence]) -> list[Finding]:
    """Each claim beside the runs of one data set; the seeds of one experiment are told as means."""
    return [_finding(claim, runs) for claim in CLAIMS]


def _finding(claim: Claim, runs: Sequence[Evidence]) -> Finding:
    gathered: dict[tuple[str, ...], list[Comparison]] = {}
    several = len({run.name for run in runs}) > 1
    for run in runs:
        for found in claim.within(run) if claim.within else ():
            key = (run.name if several else "", found.what, found.name, found.than_name)
            gathered.setdefault(key, []).append(found)
    for found in claim.across(runs) if claim.across else ():
        gathered.setdefault(("", found.what, found.name, found.than_name), []).append(found)
    verdict = _verdict([found for comparisons in gathered.values() for found in comparisons])
    return Finding(claim, verdict, [_in_words(key[0], found) for key, found in gathered.items()])


def _verdict(found: Sequence[Comparison]) -> str:
    """A tie may be no worse, but where nothing differs as the paper says, no part of the claim was seen."""
    if not found:
        return UNKNOWN
    if not any(comparison.holds and not comparison.ties for comparison in found):
        return FAILS
    return HOLDS if all(comparison.holds for comparison in found) else IN_PART


def _in_words(run: str, found: Sequence[Comparison]) -> str:
    """'tail accuracy: DIST 80.7 %, CLS 40.7 %; so in 3 of 3 runs'."""
    first = found[0]
    ours, theirs = mean(c.value for c in found), mean(c.than for c in found)
    words = f"{first.what}: {first.name} {_value(ours)}{first.unit}, {first.than_name} {_value(theirs)}{first.unit}"
    held = _counted(found) if len(found) > 1 else _held(first)
    return f"{run}, {words}{held}" if run else f"{words}{held}"


def _counted(found: Sequence[Comparison]) -> str:
    """A tie that is no worse is not counted among those that are as claimed."""
    claimed = sum(c.holds and not c.ties for c in found)
    ties = f", equal in {equal}" if (equal := sum(c.ties for c in found)) else ""
    return f"; as claimed in {claimed} of {len(found)} runs{ties}"


def _held(found: Comparison) -> str:
    if found.ties:
        return ", equal, so no worse" if found.tie_holds else ", equal, not as claimed"
    return ", as claimed" if found.holds else ", not as claimed"


def _value(value: float) -> str:
    return f"{value:.1f}" if abs(value) >= 1 or value == 0 else f"{value:.2g}"


def _beats_vit(run: Evidence) -> Iterator[Comparison]:
    for group, name in (("all", "accuracy"), ("tail", "tail accuracy")):
        ours, theirs = measures.accuracy(run, "student", "avg", group), measures.accuracy(run, "baseline", "cls", group)
        if ours is not None and theirs is not None:
            yield Comparison(name, "AVG", ours, "plain ViT", theirs)


def _beats_vit_runs(runs: Sequence[Evidence]) -> Iterator[Comparison]:
    for group, name in (("all", "accuracy"), ("tail", "tail accuracy")):
        ours = [measures.accuracy(run, "student", "avg", group) for run in runs if measures.distils(run)]
        theirs = [measures.accuracy(run, "student", "cls", group) for run in runs if not measures.distils(run)]
        yield from _means(f"{name}, runs beside runs", "AVG", ours, "students without a teacher", theirs)


def _experts(run: Evidence) -> Iterator[Comparison]:
    for group, first, second, tie in (("head", "cls", "dist", True), ("tail", "dist", "cls", False)):
        a, b = (measures.accuracy(run, "student", token, group) for token in (first, second))
        if a is not None and b is not None:
            yield Comparison(f"{group} accuracy", first.upper(), a, second.upper(), b, tie_holds=tie)


def _foreign_views(run: Evidence) -> Iterator[Comparison]:
    clean = measures.agreement(run, "clean")
    for kind in ("augmented", "mixed", "cropped"):
        seen = measures.agreement(run, kind)
        if clean is not None and seen is not None:
            yield Comparison("teacher's decisions that are true", f"on {kind} images", seen, "on clean ones", clean,
                             below=True)  # fmt: skip


_EARLY: Final = "attention distance of the patches in the first two blocks"


def _local(run: Evidence) -> Iterator[Comparison]:
    ours, theirs = measures.early_distance(run, "student"), measures.early_distance(run, "baseline")
    samples = {measures.sample(run, stage, "attention_distance") for stage in ("student", "baseline")}
    if measures.distils(run) and len(samples) == 1 and ours is not None and theirs is not None:
        yield Comparison(_EARLY, "DeiT-LT", ours, "plain ViT", theirs, unit=" px", below=True)


def _local_runs(runs: Sequence[Evidence]) -> Iterator[Comparison]:
    taught, alone = _alike(runs, measures.distils, "attention_distance")
    ours, theirs = ([measures.early_distance(run, "student") for run in side] for side in (taught, alone))
    yield from _means(f"{_EARLY}, runs beside runs", "with a teacher", ours, "without", theirs, unit=" px", below=True)


def _low_rank(runs: Sequence[Evidence]) -> Iterator[Comparison]:
    ours, theirs = ([measures.mean_rank(run) for run in side] for side in _alike(runs, measures.has_sam, "rank"))
    yield from _means("DIST's components for 99 % of the variance, mean of the blocks",
                      "SAM teacher", ours, "teacher without SAM", theirs, unit="", below=True)  # fmt: skip


def _diverge(run: Evidence) -> Iterator[Comparison]:
    series = measures.disagreement_by_epoch(run)
    if len(series) > 1:
        (first, early), (last, late) = series[0], series[-1]
        yield Comparison("images on which CLS and DIST decide differently", f"epoch {last:g}", late,
                         f"epoch {first:g}", early)  # fmt: skip


def _diverge_runs(runs: Sequence[Evidence]) -> Iterator[Comparison]:
    sides = _alike(runs, measures.is_out_of_distribution, "diversity")
    ours, theirs = ([measures.disagreement(run) for run in side] for side in sides)
    yield from _means("images on which CLS and DIST decide differently",
                      "out-of-distribution teacher", ours, "in-distribution teacher", theirs)  # fmt: skip


def _flat(runs: Sequence[Evidence]) -> Iterator[Comparison]:
    ours = [measures.sharpness(run) for run in runs if measures.has_sam(run) is True]
    theirs = [measures.sharpness(run) for run in runs if measures.has_sam(run) is False]
    yield from _means("the teacher's largest Hessian eigenvalue", "with SAM", ours, "without", theirs,
                      unit="", below=True)  # fmt: skip


def _alike(
    runs: Sequence[Evidence], has: Callable[[Evidence], bool | None], part: str
) -> tuple[list[Evidence], list[Evidence]]:
    """The runs that have something, and those that have not, whose students were measured on the same images.

    A rank is at most the number of images, and test images are no training images. Of several samples that both sides
    have it is that of the most runs.
    """
    sides = [[run for run in runs if has(run) is wanted] for wanted in (True, False)]
    ours, theirs = ([measures.sample(run, "student", part) for run in side] for side in sides)
    shared = [sample for sample in ours if sample is not None and sample in theirs]
    chosen = max(shared, key=[*ours, *theirs].count, default=None)
    if chosen is None:
        return [], []
    first, second = ([run for run in side if measures.sample(run, "student", part) == chosen] for side in sides)
    return first, second


def _means(
    what: str,
    name: str,
    ours: Sequence[float | None],
    than_name: str,
    theirs: Sequence[float | None],
    unit: str = " %",
    below: bool = False,
) -> Iterator[Comparison]:
    """The mean of some runs beside that of others, where both were measured."""
    a, b = [value for value in ours if value is not None], [value for value in theirs if value is not None]
    if a and b:
        yield Comparison(what, name, mean(a), than_name, mean(b), unit, below)


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
        "The teacher is trained on weak views, so it errs more on the student's strong ones, and it is these "
        "decisions that DIST learns.",
        "analyse the run: deitlt analyze",
        _foreign_views,
    ),
    Claim(
        "Distilling so makes early attention local",
        "Distilled from a CNN on out-of-distribution images, the patches attend more locally in the early blocks.",
        "analyse student and plain ViT on the same images: deitlt analyze",
        _local,
        _local_runs,
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
        "analyse while training, or report it beside a run with method=no_ood that was analysed on the same images",
        _diverge,
        _diverge_runs,
    ),
    Claim(
        "SAM finds a flatter teacher",
        "Sharpness-aware minimisation leads the teacher to a flatter minimum, in the tail as well.",
        "report two runs with analysed teachers together, one of them with teacher.sam.enabled=false",
        across=_flat,
    ),
)
