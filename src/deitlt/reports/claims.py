"""The paper's claims beside the numbers of finished runs: whether each holds is computed, never taken for granted."""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import mean
from typing import Final, TypeAlias

from deitlt.reports.matching import alike, has_sam, is_out_of_distribution, is_taught, matched_runs
from deitlt.reports.runs import Run, Sample, epochs_in_words, number_in, on_images, sample_of

HOLDS: Final = "holds"
IN_PART: Final = "holds in part"
FAILS: Final = "does not hold"
UNKNOWN: Final = "not measured"
_BESIDE: Final = ", runs beside runs"
# How the keys begin that make the difference that a claim is about.
_TEACHING: Final = ("teacher.", "student.distillation.", "student.model.distilled.", "student.teacher_input.",
                    "student.transforms.teacher_sees.")  # fmt: skip
_SAM: Final = ("teacher.sam.",)
_TEACHERS_IMAGES: Final = ("teacher.transforms.", "teacher.statistics.")


@dataclass(frozen=True)
class Comparison:
    """One number that should be above (or below) another.

    what: of what, such as 'tail accuracy'. unit: after both. of: what several of the same are counted as. note: a
    sentence on the runs that were compared, or nothing. run: whose numbers, where several runs have the same.
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
    run: str = ""

    @property
    def ties(self) -> bool:
        """Whether the two numbers are equal as they are shown."""
        return value_text(self.value) == value_text(self.than)

    @property
    def holds(self) -> bool:
        """Whether it is as the paper says; two equal numbers are not, unless 'no worse' is all that is said."""
        return self.tie_holds if self.ties else (self.value < self.than) == self.below


Compare: TypeAlias = Callable[[Sequence[Run]], Iterator[Comparison]]


@dataclass(frozen=True)
class Claim:
    """paper: what it says. needs: what to do where nothing could be compared. compare: what finds its numbers.

    halves: whether each of `compare` tells one half of what the paper says.
    """

    title: str
    paper: str
    needs: str
    compare: Sequence[Compare]
    halves: bool = False


@dataclass(frozen=True)
class Finding:
    """A claim beside the numbers. verdict: 'holds', 'holds in part', 'does not hold' or 'not measured'.

    notes: sentences on the runs that were compared.
    """

    claim: Claim
    verdict: str
    numbers: Sequence[str]
    notes: Sequence[str]


def findings(runs: Sequence[Run]) -> list[Finding]:
    """Each claim beside the runs of one data set; the seeds of one experiment are told as means."""
    return [_finding(claim, runs) for claim in CLAIMS]


def _finding(claim: Claim, runs: Sequence[Run]) -> Finding:
    parts = [list(compare(runs)) for compare in claim.compare]
    every = [comparison for part in parts for comparison in part]
    gathered: dict[tuple[str, ...], list[Comparison]] = {}
    for found in every:
        gathered.setdefault((found.run, found.what, found.name, found.than_name), []).append(found)
    told: dict[str, list[str]] = {}
    for (run, what, *_), comparisons in gathered.items():
        told.setdefault(f"{run}, {what}" if run else what, []).append(_in_words(comparisons))
    notes, verdict = [note for note in dict.fromkeys(found.note for found in every) if note], _verdict(every)
    if claim.halves and every and not all(parts):
        verdict = IN_PART if verdict == HOLDS else verdict
        notes.append(f"Only one half of it was measured; for the other: {claim.needs}.")
    # 'digits, tail accuracy: DIST 80.7 %, CLS 40.7 %, as claimed in 3 of 3 runs'; several about the same in one.
    return Finding(claim, verdict, [f"{what}: {'; '.join(words)}" for what, words in told.items()], notes)


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


def _each(find: Callable[[Run], Iterator[Comparison]]) -> Compare:
    """What one run alone tells, of each run."""

    def compare(runs: Sequence[Run]) -> Iterator[Comparison]:
        several = len({run.name for run in runs}) > 1
        for run in runs:
            yield from (replace(found, run=run.name if several else "") for found in find(run))

    return compare


def _means(
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


def _accuracies(
    ours: Sequence[Run], theirs: Sequence[Run], part: str, than: str, beside: str = "", note: str = ""
) -> Iterator[Comparison]:
    """AVG beside a part's CLS, and where there is a lead, whether it is greatest in the tail."""
    found: list[Comparison] = []
    for group, name in (("all", "accuracy"), ("tail", "tail accuracy")):
        students = [run.accuracy("student", "avg", group) for run in ours]
        vits = [run.accuracy(part, "cls", group) for run in theirs]
        found += _means(f"{name}{beside}", "AVG", students, than, vits, note=note)
    yield from found
    leads = [comparison.value - comparison.than for comparison in found]
    if len(leads) == 2 and max(leads) > 0:
        yield Comparison(f"lead{beside}", "in the tail", leads[1], "over all images", leads[0], " points")


def _beats_vit(run: Run) -> Iterator[Comparison]:
    """A student beside the plain ViT of the same run."""
    return _accuracies([run], [run], "baseline", "plain ViT")


def _beats_vit_runs(runs: Sequence[Run]) -> Iterator[Comparison]:
    """Students beside plain ViTs that are runs of their own."""
    taught, alone = ([run for run in runs if is_taught(run) is wanted] for wanted in (True, False))
    ours, theirs, note = matched_runs(taught, alone, _TEACHING)
    return _accuracies(ours, theirs, "student", "students without a teacher", _BESIDE, note)


def _experts(run: Run) -> Iterator[Comparison]:
    """CLS beside DIST on the head, DIST beside CLS in the tail."""
    for group, first, second, tie in (("head", "cls", "dist", True), ("tail", "dist", "cls", False)):
        a, b = (run.accuracy("student", token, group) for token in (first, second))
        if a is not None and b is not None:
            yield Comparison(f"{group} accuracy", first.upper(), a, second.upper(), b, tie_holds=tie)


def _out_of_distribution(run: Run) -> Iterator[Comparison]:
    """The teacher on the student's images beside the teacher on clean ones: percent on which it is right."""
    asked = [a["agreement"] for a in run.analyses.values() if number_in(a, "agreement", "clean", "all") is not None][:1]
    for kind in ("augmented", "mixed", "cropped"):
        seen, clean = ([number_in(found, which, "all") for found in asked] for which in (kind, "clean"))
        yield from _means("teacher's decisions that are true", f"on {kind} images", seen, "on clean ones", clean,
                          below=True)  # fmt: skip


def _early_distances(
    ours: Sequence[Run], theirs: Sequence[Run], names: tuple[str, str], stage: str, beside: str = "", note: str = ""
) -> Iterator[Comparison]:
    """The patches' mean attention distance in pixels, mean of the first two blocks, which the paper plots."""
    blocks = [[run.by_block(of, "attention_distance", "patches")[:2] for run in side]
              for of, side in (("student", ours), (stage, theirs))]  # fmt: skip
    first, second = ([mean(value for _, value in found) for found in side if found] for side in blocks)
    what = f"attention distance of the patches in the first two blocks{beside}"
    return _means(what, names[0], first, names[1], second, " px", True, note)


def _local_attention(run: Run) -> Iterator[Comparison]:
    """The early attention of a student beside that of the plain ViT of the same run."""
    if is_taught(run) and len({run.sample(stage, "attention_distance") for stage in ("student", "baseline")}) == 1:
        yield from _early_distances([run], [run], ("DeiT-LT", "plain ViT"), "baseline")


def _local_attention_runs(runs: Sequence[Run]) -> Iterator[Comparison]:
    """The early attention with a teacher and without."""
    ours, theirs, note = alike(runs, is_taught, _TEACHING, "attention_distance")
    return _early_distances(ours, theirs, ("with a teacher", "without"), "student", _BESIDE, note)


def _low_rank(runs: Sequence[Run]) -> Iterator[Comparison]:
    """The rank of DIST's features in each block, with a SAM teacher and with one without."""
    what = "DIST's components for 99 % of the variance, mean of the blocks"
    *sides, note = alike(runs, has_sam, _SAM, "rank")
    ours, theirs = ([run.by_block("student", "components", "dist") for run in side] for side in sides)
    if len({len(blocks) for blocks in (*ours, *theirs)}) == 1:
        for a, b in zip(zip(*ours, strict=True), zip(*theirs, strict=True), strict=True):
            ranks, others = ([value for _, value in side] for side in (a, b))
            found = Comparison(what, "SAM teacher", mean(ranks), "teacher without SAM", mean(others), "", True)
            yield replace(found, of="blocks", note=note)


def _diverge(run: Run) -> Iterator[Comparison]:
    """How often the tokens differ after the last analysis while training beside the first."""
    if series := run.disagreement_by_epoch():
        (first, early), (last, late) = series[0], series[-1]
        where = {sample_of(a, "diversity") for a in run.history["student"] if a["epoch"] in (first, last)}
        now, then = (f"after {epochs_in_words(epoch)}" for epoch in (last, first))
        yield Comparison(_differ(where), now, late, then, early)


def _diverge_runs(runs: Sequence[Run]) -> Iterator[Comparison]:
    """How often the tokens differ with an out-of-distribution teacher and with an in-distribution one."""
    *sides, note = alike(runs, is_out_of_distribution, _TEACHERS_IMAGES, "diversity")
    ours, theirs = ([run.number("student", "diversity", "disagreement", "all") for run in side] for side in sides)
    where = {run.sample("student", "diversity") for side in sides for run in side}
    return _means(_differ(where), "out-of-distribution teacher", ours, "in-distribution teacher", theirs, note=note)


def _differ(where: Collection[Sample | None]) -> str:
    """'share of 256 training images on which CLS and DIST decide differently'."""
    images = on_images(where).removeprefix(" on ") or "the images"
    return f"share of {images} on which CLS and DIST decide differently"


def _flat_teacher(runs: Sequence[Run]) -> Iterator[Comparison]:
    """The sharpness of teachers with SAM and without, over all images and over the tail's."""
    *sides, note = alike(runs, has_sam, [*_SAM, "student."], "sharpness", stage="teacher")
    where = on_images({run.sample("teacher", "sharpness") for side in sides for run in side})
    for group, which in (("all", ""), ("tail", ", the tail's alone")):
        ours, theirs = ([run.number("teacher", "sharpness", group, "eigenvalue") for run in side] for side in sides)
        words = f"the teacher's largest Hessian eigenvalue{where}{which}"
        yield from _means(words, "with SAM", ours, "without", theirs, "", True, note)


CLAIMS: Final = (
    Claim(
        "A CNN teacher lets a transformer learn the tail",
        "Distilled from a small CNN, a ViT trained from scratch beats the ViT that is trained alike without a "
        "teacher, most of all in the tail.",
        "train the plain ViT, too: stages=[teacher,student,baseline]",
        (_each(_beats_vit), _beats_vit_runs),
    ),
    Claim(
        "The tokens become experts: CLS for the head, DIST for the tail",
        "With deferred re-weighting of the distillation loss, DIST becomes the tail's expert; CLS stays the head's.",
        "train a student with both tokens",
        (_each(_experts),),
    ),
    Claim(
        "The student's images are out of the teacher's distribution",
        "The teacher is trained on weak transforms, so it errs more on the student's strong ones.",
        "analyse the run: deitlt analyze",
        (_each(_out_of_distribution),),
    ),
    Claim(
        "Distilling so makes early attention local",
        "Distilled from a CNN on out-of-distribution images, the patches attend more locally in the early blocks.",
        "analyse student and plain ViT on the same images: deitlt analyze",
        (_each(_local_attention), _local_attention_runs),
    ),
    Claim(
        "A flat teacher hands on low-rank features",
        "Of a teacher trained with SAM the student inherits, through DIST, features of lower rank in every block.",
        "report two runs together that deitlt analyze measured on the same images, one of them with "
        "teacher.sam.enabled=false",
        (_low_rank,),
    ),
    Claim(
        "The two tokens diverge",
        "CLS and DIST grow apart while the student trains, and more so with an out-of-distribution teacher.",
        "analyse at least twice while training (analysis.every=1), and report it beside a run with method=no_ood that "
        "was analysed on the same images",
        (_each(_diverge), _diverge_runs),
        halves=True,
    ),
    Claim(
        "SAM finds a flatter teacher",
        "Sharpness-aware minimisation leads the teacher to a flatter minimum, in the tail as well.",
        "report two runs together whose teachers deitlt analyze measured on equally many images, one of them with "
        "teacher.sam.enabled=false",
        (_flat_teacher,),
    ),
)
