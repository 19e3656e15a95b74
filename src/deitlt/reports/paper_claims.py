"""What the paper claims, in words, and which numbers of finished runs can tell."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from deitlt.reports import claim_numbers
from deitlt.reports.comparisons import Comparison
from deitlt.reports.evidence import Evidence

Within: TypeAlias = Callable[[Evidence], Iterator[Comparison]]
Across: TypeAlias = Callable[[Sequence[Evidence]], Iterator[Comparison]]


@dataclass(frozen=True)
class Claim:
    """paper: what it says. needs: what to do where nothing could be compared. within: one run's numbers.

    across: numbers of several runs of one data set, such as those with and without SAM.
    halves: whether either tells one half of what the paper says.
    """

    title: str
    paper: str
    needs: str
    within: Within | None = None
    across: Across | None = None
    halves: bool = False


CLAIMS: Final = (
    Claim(
        "A CNN teacher lets a transformer learn the tail",
        "Distilled from a small CNN, a ViT trained from scratch beats the ViT that is trained alike without a "
        "teacher, most of all in the tail.",
        "train the plain ViT, too: stages=[teacher,student,baseline]",
        claim_numbers.beats_vit,
        claim_numbers.beats_vit_runs,
    ),
    Claim(
        "The tokens become experts: CLS for the head, DIST for the tail",
        "With deferred re-weighting of the distillation loss, DIST becomes the tail's expert; CLS stays the head's.",
        "train a student with both tokens",
        claim_numbers.experts,
    ),
    Claim(
        "The student's images are out of the teacher's distribution",
        "The teacher is trained on weak views, so it errs more on the student's strong ones.",
        "analyse the run: deitlt analyze",
        claim_numbers.foreign_views,
    ),
    Claim(
        "Distilling so makes early attention local",
        "Distilled from a CNN on out-of-distribution images, the patches attend more locally in the early blocks.",
        "analyse student and plain ViT on the same images: deitlt analyze",
        claim_numbers.local_attention,
        claim_numbers.local_attention_runs,
    ),
    Claim(
        "A flat teacher hands on low-rank features",
        "Of a teacher trained with SAM the student inherits, through DIST, features of lower rank in every block.",
        "report two runs together that deitlt analyze measured on the same images, one of them with "
        "teacher.sam.enabled=false",
        across=claim_numbers.low_rank,
    ),
    Claim(
        "The two tokens diverge",
        "CLS and DIST grow apart while the student trains, and more so with an out-of-distribution teacher.",
        "analyse at least twice while training (analysis.every=1), and report it beside a run with method=no_ood that "
        "was analysed on the same images",
        claim_numbers.diverge,
        claim_numbers.diverge_runs,
        halves=True,
    ),
    Claim(
        "SAM finds a flatter teacher",
        "Sharpness-aware minimisation leads the teacher to a flatter minimum, in the tail as well.",
        "report two runs together whose teachers deitlt analyze measured on equally many images, one of them with "
        "teacher.sam.enabled=false",
        across=claim_numbers.flat_teacher,
    ),
)
