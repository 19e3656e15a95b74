"""Single numbers of a run, as the paper's claims need them; None where a run did not measure one."""

from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any

from deitlt.reports.evidence import Evidence, Points, dig
from deitlt.reports.samples import Sample, samples_of


def accuracy(run: Evidence, part: str, token: str, group: str) -> float | None:
    """Percent of one token of the trained weights, of a teacher with token ''; a ViT with CLS alone has no AVG."""
    return _number(run.metrics, part, *([token] if token else []), group)


def distils(run: Evidence) -> bool:
    """Whether the run's student has a DIST token."""
    return "dist" in (run.metrics.get("student") or {})


def is_taught(run: Evidence) -> bool | None:
    """Whether a teacher taught the student; None without a student, and of a control, whose tokens learn the truth."""
    control = distils(run) and dig(run.stages, "student", "recipe", "distillation", "kind") == "none"
    return distils(run) if run.metrics.get("student") and not control else None


def has_sam(run: Evidence) -> bool | None:
    """Whether the student's teacher was trained with SAM; None where it has none, or nobody wrote down its recipe."""
    enabled = dig(run.stages, "teacher", "recipe", "sam", "enabled")
    return None if enabled is None or not distils(run) else bool(enabled)


def is_out_of_distribution(run: Evidence) -> bool | None:
    """Whether the teacher was trained on other views or mixing than the student; None where that is not known."""
    teacher, student = (dig(run.stages, stage, "recipe", "views") for stage in ("teacher", "student"))
    if not distils(run) or teacher is None or student is None:
        return None
    return any(dig(teacher, part) != dig(student, part) for part in ("train", "mixing"))


def sample(run: Evidence, stage: str, part: str) -> Sample | None:
    """Of which images a part of a stage's analysis tells; None where it was not measured."""
    return (run.samples.get(stage) or {}).get(part)


def samples_by_epoch(run: Evidence, stage: str, part: str) -> list[Sample]:
    """Of which images a part tells in the analyses while training, one after another."""
    found = [samples_of(analysis) for analysis in run.history.get(stage) or ()]
    return [samples[part] for samples in found if part in samples]


def agreement(run: Evidence, kind: str) -> float | None:
    """Percent of images on which teacher and truth agree; kind: 'clean', 'augmented', 'mixed' or 'cropped'."""
    found = [_number(analysis, "agreement", kind, "all") for analysis in run.analyses.values()]
    return next((value for value in found if value is not None), None)


def by_block(run: Evidence, stage: str, measure: str, token: str) -> list[float]:
    """One value a block: of 'attention_distance' the mean of the heads, in pixels, else of the tokens' rank.

    measure: 'attention_distance', 'components', 'effective'. Empty where it was not measured.
    """
    analysis = run.analyses.get(stage) or {}
    if measure == "attention_distance":
        heads = dig(analysis, measure, token) or ()
        return [mean(block) for block in heads if block]
    return [float(value) for value in dig(analysis, "rank", token, measure) or ()]


def early_distance(run: Evidence, stage: str) -> float | None:
    """Mean attention distance of the patches in pixels, mean of the first two blocks, which the paper plots."""
    blocks = by_block(run, stage, "attention_distance", "patches")
    return mean(blocks[:2]) if blocks else None


def disagreement(run: Evidence, group: str = "all") -> float | None:
    """Percent of images that CLS and DIST put into different classes."""
    return _number(run.analyses.get("student") or {}, "diversity", "disagreement", group)


def disagreement_by_epoch(run: Evidence, group: str = "all") -> list[tuple[float, float]]:
    """(epoch, percent) of the analyses while training."""
    history: Sequence[Mapping[str, Any]] = run.history.get("student") or ()
    found = [(float(a["epoch"]), _number(a, "diversity", "disagreement", group)) for a in history]
    return [(epoch, value) for epoch, value in found if value is not None]


def teacher_rank_by_epoch(run: Evidence, measure: str) -> Points:
    """(epoch, rank of the teacher's features), while training; where nobody looked, of the finished teacher alone.

    measure: 'components' or 'effective'.
    """
    while_training = run.history.get("teacher") or ()
    for analyses in (while_training, (run.analyses.get("teacher") or {},)):
        found = [(analysis.get("epoch"), _number(analysis, "rank", "features", measure)) for analysis in analyses]
        if points := [(float(at), value) for at, value in found if at is not None and value is not None]:
            return points
    return []


def sharpness(run: Evidence, group: str = "all") -> float | None:
    """The largest eigenvalue of the teacher's Hessian, of all images or of a group's."""
    return _number(run.analyses.get("teacher") or {}, "sharpness", group, "eigenvalue")


def _number(content: Any, *keys: str) -> float | None:
    value = dig(content, *keys)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
