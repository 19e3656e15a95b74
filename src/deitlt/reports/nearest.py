"""Which runs a claim puts beside each other: those whose recipes differ in least but what the claim is about."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any, Final, NamedTuple

from deitlt.reports.evidence import Evidence, Plain, dig

# Where files lie, and how an update's images are shared among devices: it changes no run's numbers by design.
_ELSEWHERE: Final = (".checkpoint", ".devices", ".batch_size")
_NAMED: Final = 3  # keys that a note names; more are counted


class Sides(NamedTuple):
    """ours: the runs that have something. theirs: those that have not. note: on what else they differ in, or ''."""

    ours: Sequence[Evidence]
    theirs: Sequence[Evidence]
    note: str = ""


def nearest(ours: Sequence[Evidence], theirs: Sequence[Evidence], about: Sequence[str]) -> Sides:
    """The runs of one recipe on either side: of the two recipes that differ in the fewest keys, else of the most runs.

    Args:
        ours: runs that have something.
        theirs: runs that have not.
        about: how the keys begin in which they may differ, such as 'teacher.sam.'.
    """
    first, second = (_by_recipe(side, about) for side in (ours, theirs))
    if not first or not second:
        return Sides([], [])
    pairs = list(product(first, second))
    a, b = min(pairs, key=lambda pair: (len(_differing(*pair)), -len(first[pair[0]]) - len(second[pair[1]])))
    return Sides(first[a], second[b], _note(first[a], second[b], _differing(a, b), len(pairs) > 1))


_Recipe = tuple[tuple[str, str], ...]


def _by_recipe(runs: Sequence[Evidence], about: Sequence[str]) -> dict[_Recipe, list[Evidence]]:
    found: dict[_Recipe, list[Evidence]] = {}
    for run in runs:
        nodes = {stage: dig(run.stages, stage, "recipe") or {} for stage in ("teacher", "student")}
        nodes["data"] = {"sampler": dig(run.stages, "student", "data", "sampler") or {}}
        leaves = {key: str(value) for key, value in _leaves(nodes) if not _is_free(key, about)}
        found.setdefault(tuple(sorted(leaves.items())), []).append(run)
    return found


def _is_free(key: str, about: Sequence[str]) -> bool:
    return key.endswith(_ELSEWHERE) or f"{key}.".startswith(tuple(about))


def _leaves(node: Plain, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in node.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _differing(first: _Recipe, second: _Recipe) -> list[str]:
    """The keys in which two recipes differ; none where one was not written down. A null node stands for its keys."""
    a, b = dict(first), dict(second)
    keys = [key for key in sorted(a.keys() | b.keys()) if a.get(key) != b.get(key)] if a and b else []
    return [key for key in keys if not any(key.startswith(f"{other}.") for other in keys)]


def _note(ours: Sequence[Evidence], theirs: Sequence[Evidence], differing: Sequence[str], chosen: bool) -> str:
    """'Compared: digits beside digits vit; they differ in student.drw, too.'"""
    more = f" and {len(differing) - _NAMED} keys more" if len(differing) > _NAMED else ""
    words = f"differ in {', '.join(differing[:_NAMED])}{more}, too" if differing else ""
    if not chosen:
        return f"The runs compared {words}." if words else ""
    names = (", ".join(dict.fromkeys(run.name for run in side)) for side in (ours, theirs))
    return f"Compared: {' beside '.join(names)}{f'; they {words}' if words else ''}."
