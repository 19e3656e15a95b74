"""The result of an analysis: plain values as JSON holds them; its numbers as rows, as curves and as a CSV file."""

import csv
import io
import math
from collections.abc import Iterator, Mapping
from statistics import fmean
from typing import Any, NamedTuple

Plain = Mapping[str, Any]
_OF_IMAGES = ("attention_distance", "rank", "diversity", "winners", "calibration")  # measured on the split's images
_CURVES = {"attention_distance": "distance", "rank/components": "rank", "rank/effective": "effective_rank"}


class Number(NamedTuple):
    """One number of an analysis, and where it stands; what does not apply is None.

    part: such as 'attention_distance' or 'rank/effective'. token: 'cls', 'dist', 'patches', 'avg', 'features', or
    for agreement the kind of image; for sharpness 'eigenvalue', 'trace', or 'images', on how many it was measured.
    block and head count from 0. group: 'all', 'head', 'mid', 'tail', or a class id.
    """

    part: str
    token: str | None
    block: int | None
    head: int | None
    group: str | None
    value: float


def numbers(analysis: Plain) -> list[Number]:
    """Every number of an analysis, in the order of its parts."""
    return [number for part, read in _READERS.items() if part in analysis for number in read(analysis[part])]


def scalars(analysis: Plain) -> dict[str, float]:
    """The analysis as curves: ``analysis/PART/[TOKEN or MEASURE]/[blockNN or GROUP]`` -> value.

    - ``analysis/distance/cls/block00``: pixels, mean over the heads;
    - ``analysis/rank/dist/block03`` and ``analysis/effective_rank/dist/block03``;
    - ``analysis/diversity/disagreement/tail`` in percent, ``analysis/diversity/cosine_distance/tail``, and
      ``analysis/diversity/cosine_distance/block03``;
    - ``analysis/winners/dist``: classes;
    - ``analysis/calibration/avg/tail``, ``analysis/agreement/mixed/tail`` and ``analysis/consistency/mixed/tail``:
      percent;
    - ``analysis/sharpness/eigenvalue/tail`` and ``analysis/sharpness/trace/tail``.

    A teacher's features have no block: ``analysis/rank/features``. What stands for a single head or class is left
    out, and so are the images on which sharpness was measured.
    """
    curves: dict[str, list[float]] = {}
    for number in numbers(analysis):
        if number.part == "recall" or number.token == "images":
            continue
        place = number.group if number.block is None else f"block{number.block:02d}"
        words = ("analysis", _CURVES.get(number.part, number.part), number.token, place)
        curves.setdefault("/".join(word for word in words if word is not None), []).append(number.value)
    return {name: fmean(values) for name, values in curves.items()}


def as_csv(analysis: Plain) -> str:
    """A row for each number, in the long form that data frames like; what does not apply is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*Number._fields, "split", "images"])
    for number in numbers(analysis):
        row = [*number, *_sample(analysis, "winners" if number.part == "recall" else number.part.partition("/")[0])]
        writer.writerow(["" if value is None else value for value in row])
    return text.getvalue()


def finite(content: Any) -> Any:
    """Plain values without the numbers that are not finite: such a number is absent, as what was not measured is.

    A list that holds one is absent as a whole, for the places in a list mean blocks and heads.

    Args:
        content: an analysis, or a part of one.

    Returns:
        The same in new containers; None for a number that is not finite, and for a list that holds one.
    """
    if isinstance(content, dict):
        kept = {key: finite(value) for key, value in content.items()}
        return {key: value for key, value in kept.items() if value is not None}
    if isinstance(content, list):
        values = [finite(value) for value in content]
        return None if any(value is None for value in values) else values
    return None if isinstance(content, float) and not math.isfinite(content) else content


def _sample(analysis: Plain, part: str) -> tuple[str | None, int | None]:
    """The split and the number of images that a part was measured on; None where that is not said."""
    if part == "sharpness" and (whole := analysis[part].get("all")):
        return "train", whole.get("images")
    return (analysis.get("split"), analysis.get("images")) if part in _OF_IMAGES else (None, None)


def _distances(part: Plain) -> Iterator[Number]:
    for token, blocks in part.items():
        if token != "unit":
            for b, heads in enumerate(blocks):
                yield from (Number("attention_distance", token, b, h, None, value) for h, value in enumerate(heads))


def _ranks(part: Plain) -> Iterator[Number]:
    for token, measures in part.items():
        if token == "width":
            continue
        for measure, values in measures.items():
            if isinstance(values, list):
                yield from (Number(f"rank/{measure}", token, b, None, None, value) for b, value in enumerate(values))
            else:
                yield Number(f"rank/{measure}", token, None, None, None, values)


def _diversity(part: Plain) -> Iterator[Number]:
    for measure in ("cosine_distance", "disagreement"):
        yield from (Number("diversity", measure, None, None, g, v) for g, v in part.get(measure, {}).items())
    for b, value in enumerate(part.get("per_block", ())):
        yield Number("diversity", "cosine_distance", b, None, None, value)


def _winners(part: Plain) -> Iterator[Number]:
    yield from (Number("winners", token, None, None, None, part[token]) for token in ("cls", "dist", "tie"))
    for found in part["classes"]:
        for token in ("cls", "dist"):
            yield Number("recall", token, None, None, str(found["class"]), found[token])


def _by_token(name: str, part: Plain) -> Iterator[Number]:
    for token, groups in part.items():
        yield from (Number(name, token, None, None, group, value) for group, value in groups.items())


def _sharpness(part: Plain) -> Iterator[Number]:
    for measure in ("eigenvalue", "trace", "images"):
        known = {group: found[measure] for group, found in part.items() if measure in found}
        yield from (Number("sharpness", measure, None, None, group, value) for group, value in known.items())


_READERS = {
    "attention_distance": _distances,
    "rank": _ranks,
    "diversity": _diversity,
    "winners": _winners,
    "calibration": lambda part: _by_token("calibration", part),
    "agreement": lambda part: _by_token("agreement", part),
    "consistency": lambda part: _by_token("consistency", part),
    "sharpness": _sharpness,
}
