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
        lines.append(_ranks(analysis["rank"]))
    if "winners" in analysis:
        won = analysis["winners"]
        lines.append(f"classes won: CLS {won['cls']}, DIST {won['dist']}, ties {won['tie']}")
    if images := analysis.get("sharpness", {}).get("all", {}).get("images"):
        lines.append(f"Hessian: of the loss of {images:,} training images")
    return lines


def _rows(analysis: Plain) -> Iterator[tuple[str, Mapping[str, float], str]]:
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
        for measure, words in (("eigenvalue", "Hessian: largest eigenvalue"), ("trace", "Hessian: trace")):
            if values := {group: found[measure] for group, found in analysis["sharpness"].items() if measure in found}:
                yield words, values, "{:.3g}"


def _ranks(rank: Plain) -> str:
    found = []
    for name, measures in _tokens(rank):
        last = {key: values[-1] if isinstance(values, list) else values for key, values in measures.items()}
        found.append(f"{_TOKENS.get(name, name)} {last['components']} ({last['effective']:.1f})")
    where = "of the features" if "features" in rank else "after the last block"
    return f"rank {where}, of {rank['width']}: {', '.join(found)}; in brackets the effective rank"


def _tokens(part: Plain) -> list[tuple[str, Any]]:
    return [(name, value) for name, value in part.items() if name not in ("unit", "width") and value]
