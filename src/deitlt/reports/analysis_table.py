"""The main numbers of an analysis on a terminal."""

from collections.abc import Iterator, Mapping
from statistics import fmean
from typing import Any

from rich.markup import escape
from rich.table import Table

Plain = Mapping[str, Any]
_GROUPS = ("all", "head", "mid", "tail")
_TOKENS = {"cls": "CLS", "dist": "DIST", "avg": "AVG", "patches": "patches"}


def analysis_table(analysis: Plain, title: str) -> Table | None:
    """What an analysis found by group, a row a measure; None where nothing of it has groups.

    Args:
        analysis: in plain values.
        title: of whom it is.
    """
    rows = list(_rows(analysis))
    if not rows:
        return None
    groups = [*_GROUPS, *dict.fromkeys(g for _, values, _ in rows for g in values if g not in _GROUPS)]
    groups = [group for group in groups if any(group in values for _, values, _ in rows)]
    table = Table(title=escape(title))
    table.add_column("")
    for group in groups:
        table.add_column(group, justify="right")
    for label, values, number in rows:
        table.add_row(label, *(number.format(values[group]) if group in values else "-" for group in groups))
    return table


def analysis_lines(analysis: Plain) -> list[str]:
    """What has no groups, in a line each: attention, ranks, and who wins how many classes."""
    lines = []
    if tokens := _tokens(analysis.get("attention_distance", {})):
        distances = {name: [fmean(heads) for heads in blocks] for name, blocks in tokens}
        said = [f"{_TOKENS[name]} {means[0]:.1f} -> {means[-1]:.1f}" for name, means in distances.items()]
        lines.append(f"attention distance in pixels, first -> last block: {', '.join(said)}")
    if _tokens(analysis.get("rank", {})):
        lines.append(_ranks(analysis["rank"]) + _bound(analysis))
    if "winners" in analysis:
        won = analysis["winners"]
        lines.append(f"classes won: CLS {won['cls']}, DIST {won['dist']}, ties {won['tie']}")
    if sharpness := analysis.get("sharpness"):
        lines += _hessian(sharpness)
    return lines


def _rows(analysis: Plain) -> Iterator[tuple[str, Mapping[str, float | str], str]]:
    """Label, group -> value, and how a value is written."""
    diversity = analysis.get("diversity", {})
    if "disagreement" in diversity:
        yield "CLS and DIST disagree, %", diversity["disagreement"], "{:.1f}"
    if diversity.get("cosine_distance"):
        yield "1 - cosine of CLS and DIST", diversity["cosine_distance"], "{:.3f}"
    for token, groups in analysis.get("calibration", {}).items():
        answer = "" if analysis["kind"] == "teacher" else f" of {_TOKENS[token]}"
        yield f"calibration error{answer}, %", groups, "{:.1f}"
    for kind, groups in analysis.get("agreement", {}).items():
        yield f"teacher right on {kind} images, %", groups, "{:.1f}"
    if "sharpness" in analysis:
        found = analysis["sharpness"].items()
        if values := {group: numbers["eigenvalue"] for group, numbers in found if "eigenvalue" in numbers}:
            yield "Hessian: largest eigenvalue", values, "{:.3g}"
        if traces := {group: _trace(numbers) for group, numbers in found if "trace" in numbers}:
            yield "Hessian: trace", traces, "{}"


def _trace(numbers: Mapping[str, float]) -> str:
    """'500 ± 9', with the standard error of its estimate."""
    error = numbers.get("trace_error")
    return f"{numbers['trace']:.3g}" + (f" ± {error:.3g}" if error else "")


def _hessian(sharpness: Mapping[str, Mapping[str, float]]) -> Iterator[str]:
    images = {group: numbers["images"] for group, numbers in sharpness.items() if numbers.get("images")}
    if "all" in images:
        groups = ", ".join(f"{group} {images[group]:,}" for group in images if group != "all")
        yield f"Hessian: of the loss of {images['all']:,} training images{f' ({groups})' if groups else ''}"
    if any(numbers.get("trace", 0.0) < 0 for numbers in sharpness.values()):
        yield "Hessian: a negative trace is a saddle's, so these weights are at no minimum"


def _ranks(rank: Plain) -> str:
    found = []
    for name, measures in _tokens(rank):
        last = {key: values[-1] if isinstance(values, list) else values for key, values in measures.items()}
        found.append(f"{_TOKENS.get(name, name)} {last['components']} ({last['effective']:.1f})")
    where = "of the features" if "features" in rank else "after the last block"
    return f"rank {where}, of {rank['width']}: {', '.join(found)}; in brackets the effective rank"


def _bound(analysis: Plain) -> str:
    """Why the ranks are no larger, where it is the images that are too few."""
    images, width = analysis.get("images"), analysis["rank"]["width"]
    if images is None or images > width:
        return ""
    return f"; of {images:,} images a rank is at most {images - 1:,}, type images={width + 1} or more"


def _tokens(part: Plain) -> list[tuple[str, Any]]:
    return [(name, value) for name, value in part.items() if name not in ("unit", "width") and value]
