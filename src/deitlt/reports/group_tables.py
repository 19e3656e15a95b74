"""What was measured by group of classes, as small tables: calibration, agreement, disagreement, sharpness, winners."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any, Final

from deitlt.reports.evidence import Evidence, dig
from deitlt.reports.scales import number

_GROUPS: Final = ("all", "head", "mid", "tail")
_TOKENS: Final = {"cls": "CLS", "dist": "DIST", "avg": "AVG"}
_STAGES: Final = {"student": "", "baseline": "plain ViT ", "teacher": "teacher "}
_INPUTS: Final = ("clean", "augmented", "mixed", "cropped")
_WINNERS: Final = {"cls": "CLS", "dist": "DIST", "tie": "tie"}
_NOTHING: Final = "-"
_SMALL: Final = 1e-3  # what is smaller is shorter with an exponent
_SHARPNESS: Final = (
    "Largest eigenvalue and trace of the Hessian of these training images' loss; ± the standard error of the trace's "
    "estimate. At a minimum, the smaller, the flatter; a negative trace is a saddle's, so these weights are at no "
    "minimum."
)


@dataclass(frozen=True)
class ValueTable:
    """columns: names of the values. rows: name -> one text a column. note: what the numbers mean."""

    title: str
    note: str
    columns: Sequence[str]
    rows: Mapping[str, Sequence[str]]


def group_tables(runs: Sequence[Evidence]) -> list[ValueTable]:
    """The tables of one experiment, its numbers the means over its seeds; what was not measured is absent."""
    return [table for table in _tables(runs) if table.rows]


def _tables(runs: Sequence[Evidence]) -> Iterator[ValueTable]:
    yield _grouped(runs, "Calibration", "Expected calibration error in percent: 0 is confidence that is deserved.",
                   {f"{name}{_TOKENS[t] if stage != 'teacher' else ''}".strip(): (stage, "calibration", t)
                    for stage, name in _STAGES.items() for t in _TOKENS})  # fmt: skip
    yield _grouped(runs, "What the teacher says and what is true",
                   "Training images in percent on which they agree, by what becomes of the images.",
                   {kind: (stage, "agreement", kind) for kind in _INPUTS for stage in _agreeing(runs)})  # fmt: skip
    yield _grouped(runs, "How often the teacher keeps its decision",
                   "Training images in percent on which it decides as it does on the clean image.",
                   {kind: (stage, "consistency", kind) for kind in _INPUTS for stage in _agreeing(runs)})  # fmt: skip
    yield _grouped(runs, "How CLS and DIST differ",
                   "Images in percent that they put into different classes; 1 - cosine of their features.",
                   {"different decisions, %": ("student", "diversity", "disagreement"),
                    "1 - cosine": ("student", "diversity", "cosine_distance")})  # fmt: skip
    yield _sharpness(runs)
    yield _winners(runs)


def _agreeing(runs: Sequence[Evidence]) -> list[str]:
    """The stage whose analysis asked the teacher."""
    return [stage for stage in _STAGES if any(dig(run.analyses, stage, "agreement") for run in runs)][:1]


def _grouped(runs: Sequence[Evidence], title: str, note: str, places: Mapping[str, tuple[str, ...]]) -> ValueTable:
    rows = {}
    for name, keys in places.items():
        values = [_mean(runs, *keys, group) for group in _GROUPS]
        if any(value is not None for value in values):
            rows[name] = [_text(value) for value in values]
    return ValueTable(title, note, _GROUPS, rows)


def _sharpness(runs: Sequence[Evidence]) -> ValueTable:
    rows: dict[str, Sequence[str]] = {}
    for stage, name in _STAGES.items():
        found = {key: [_mean(runs, stage, "sharpness", g, key) for g in _GROUPS] for key in ("eigenvalue", "trace")}
        found["trace, ±"] = [_standard_error(runs, stage, group) for group in _GROUPS]
        texts = {key: [_text(value) for value in values] for key, values in found.items()}
        texts["images"] = [_count(_mean(runs, stage, "sharpness", group, "images")) for group in _GROUPS]
        rows |= {f"{name or 'student '}{key}": row for key, row in texts.items() if {*row} != {_NOTHING}}
    return ValueTable("Sharpness", _SHARPNESS, _GROUPS, rows)


def _standard_error(runs: Sequence[Evidence], stage: str, group: str) -> float | None:
    """What the mean of the runs' traces has of their estimates' errors; None where there is none."""
    found: list[Any] = [dig(run.analyses, stage, "sharpness", group, "trace_error") for run in runs]
    errors = [float(error) for error in found if isinstance(error, int | float)]
    return math.hypot(*errors) / len(errors) if any(errors) else None


def _winners(runs: Sequence[Evidence]) -> ValueTable:
    values = [_mean(runs, "student", "winners", key) for key in _WINNERS]
    rows = {"classes": [_count(value) for value in values]} if any(value is not None for value in values) else {}
    return ValueTable("Which token wins", "Classes on which that token's recall is higher.", [*_WINNERS.values()], rows)


def _mean(runs: Sequence[Evidence], *keys: str) -> float | None:
    found: list[Any] = [dig(run.analyses, *keys) for run in runs]
    values = [float(v) for v in found if isinstance(v, int | float)]
    return mean(values) if values else None


def _text(value: float | None) -> str:
    if value is None:
        return _NOTHING
    if 0 < abs(value) < _SMALL:
        return f"{value:.1e}".replace("e-0", "e-")
    return f"{value:.1f}" if 1 <= abs(value) < 1000 else number(value)


def _count(value: float | None) -> str:
    """Whole of one run, a mean of several."""
    return f"{value:,.0f}" if value is not None and value == int(value) else _text(value)
