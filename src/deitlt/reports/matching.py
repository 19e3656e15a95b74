"""Which runs may stand beside each other: of one recipe but for one thing, measured on the same images."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product
from typing import Any, Final, NamedTuple, TypeAlias

from deitlt.reports.runs import Run, dig

# Where files lie, and how an update's images are shared among devices: it changes no run's numbers by design.
_ELSEWHERE: Final = (".checkpoint", "trainer.devices", ".batch_size")
_NAMED: Final = 3  # keys that a note names; more are counted


class Sides(NamedTuple):
    """ours: the runs that have something. theirs: those that have not. note: on what else they differ in, or ''."""

    ours: Sequence[Run]
    theirs: Sequence[Run]
    note: str = ""


_Recipe: TypeAlias = tuple[tuple[str, str], ...]


def matched_runs(ours: Sequence[Run], theirs: Sequence[Run], about: Sequence[str]) -> Sides:
    """The runs of one recipe on either side: of the two recipes that differ in the fewest keys, else of the most runs.

    Args:
        ours: runs that have something.
        theirs: runs that have not.
        about: how the keys begin in which they may differ, such as 'teacher.sam.'.
    """
    first, second = (_by_recipe(side, about) for side in (ours, theirs))
    pairs = list(product(first, second))
    if not pairs:
        return Sides([], [])
    a, b = min(pairs, key=lambda pair: (len(_differing(*pair)), -len(first[pair[0]]) - len(second[pair[1]])))
    differing, names = _differing(a, b), [", ".join({run.name: None for run in s}) for s in (first[a], second[b])]
    more = f" and {len(differing) - _NAMED} keys more" if len(differing) > _NAMED else ""
    words = f"; they differ in {', '.join(differing[:_NAMED])}{more}, too" if differing else ""
    note = f"Compared: {names[0]} beside {names[1]}{words}." if words or len(pairs) > 1 else ""
    return Sides(first[a], second[b], note)


def _by_recipe(runs: Sequence[Run], about: Sequence[str]) -> dict[_Recipe, list[Run]]:
    found: dict[_Recipe, list[Run]] = {}
    for run in runs:
        leaves = [leaf for leaf in recipe_of(run) if not f"{leaf[0]}.".startswith(tuple(about))]
        found.setdefault(tuple(leaves), []).append(run)
    return found


def recipe_of(run: Run, stages: Sequence[str] = ("teacher", "student")) -> _Recipe:
    """With what some stages were trained, as sorted keys and values; the last one's sampler tells which images."""
    nodes = {stage: run.recipe(stage) for stage in stages}
    sampler = {"data": {"sampler": dig(run.stages, stages[-1], "data", "sampler") or {}}}
    leaves = _leaves({**nodes, **sampler})
    return tuple(sorted((key, str(value)) for key, value in leaves if not key.endswith(_ELSEWHERE)))


def _leaves(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
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


def alike(
    runs: Sequence[Run], has: Callable[[Run], bool | None], about: Sequence[str], part: str, stage: str = "student"
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
    if not shared:
        return Sides([], [])
    chosen = max(shared, key=[*ours, *theirs].count)
    first, second = ([run for run in side if run.sample(stage, part) == chosen] for side in sides)
    return matched_runs(first, second, about)


def is_taught(run: Run) -> bool | None:
    """Whether a teacher taught the student; None without a student, and of a control, whose tokens learn the labels."""
    control = run.distils and dig(run.recipe("student"), "distillation", "kind") == "none"
    return run.distils if run.metrics.get("student") and not control else None


def has_sam(run: Run) -> bool | None:
    """Whether the student's teacher was trained with SAM; None where it has none, or nobody wrote down its recipe."""
    enabled = dig(run.recipe("teacher"), "sam", "enabled")
    return None if enabled is None or not run.distils else bool(enabled)


def is_out_of_distribution(run: Run) -> bool | None:
    """Whether the teacher was trained on other transforms or mixing than the student; None where that is not known."""
    teacher, student = (run.recipe(stage).get("transforms") for stage in ("teacher", "student"))
    if not run.distils or teacher is None or student is None:
        return None
    return any(dig(teacher, part) != dig(student, part) for part in ("train", "mixing"))
