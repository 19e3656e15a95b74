"""Which published number a finished run can be compared with."""

import re
from collections.abc import Mapping
from typing import Any, Final

from deitlt.reports.published import (
    DEIT,
    DEIT3,
    DEIT_LT_LDAM,
    DEIT_LT_PACO,
    PUBLISHED,
    TEACHER_LDAM,
    TEACHER_PACO,
    VIT,
    Benchmark,
)
from deitlt.reports.runs import Run

# What follows the data set in an experiment's name -> row of each part of its metrics.json.
_LDAM: Final = {"teacher": TEACHER_LDAM, "student": DEIT_LT_LDAM, "baseline": VIT}
_PACO: Final = {"teacher": TEACHER_PACO, "student": DEIT_LT_PACO, "baseline": VIT}
_VIT: Final = {"student": VIT}
_DEIT: Final = {"student": DEIT}
_RECIPES: Final[dict[str, dict[str, str]]] = {
    **{"": _LDAM, "ldam": _LDAM, "paco": _PACO},
    **{"vit": _VIT, "deit": _DEIT, "deit3": {"student": DEIT3}},
}
# A method changes an experiment: (the experiment, the method) -> rows. Other methods are in no table.
_METHODS: Final[dict[tuple[str, str], dict[str, str]]] = {
    **{("", "vit"): _VIT, ("paco", "vit"): _VIT, ("vit", "vit"): _VIT},
    **{("", "deit"): _DEIT, ("deit", "deit"): _DEIT},
}
_OWN_METHOD: Final = "deit_lt"  # the recipe as it is
# Changes after which a number still belongs beside the published one: the table has a column for either tail and one
# for the protocol; the rest is where files lie, and how a recipe's images per update are shared among devices.
_FREE: Final = (
    *("data.imbalance_factor ", "data.train_list ", "data.test_list ", "data.on_broken ", "data.exclude ", "protocol "),
    *("teacher.batch_size ", "student.batch_size ", "teacher.devices ", "student.devices ", "teacher.checkpoint "),
)


def benchmark_of(metrics: Mapping[str, Any]) -> Benchmark | None:
    """The published data set and tail that a run was trained on; None for any other."""
    factor = metrics.get("imbalance_factor")
    imbalance = round(1 / factor) if factor else None
    return next((b for b in PUBLISHED if (b.data, b.imbalance) == (metrics.get("data"), imbalance)), None)


def changes_that_count(run: Run) -> tuple[str, ...]:
    """What the run changed in its recipe, but for what leaves its numbers comparable; any, where no table has them."""
    known = benchmark_of(run.metrics) is not None
    return tuple(change for change in run.changes if not (known and change.startswith(_FREE)))


def published_rows(run: Run) -> dict[str, str]:
    """Part of metrics.json -> row of the published table; a part without a row is absent.

    A run that changed its recipe has none, nor one of other data, of a method that the paper does not have, or
    of no experiment.
    """
    benchmark, experiment = benchmark_of(run.metrics), str(run.metrics.get("experiment") or "")
    data, suffix = _parts(experiment)
    if benchmark is None or data != benchmark.data.removesuffix("_lt"):
        return {}
    if suffix not in _RECIPES or changes_that_count(run):
        return {}
    method = run.metrics.get("method") or _OWN_METHOD
    rows = _RECIPES[suffix] if method == _OWN_METHOD else _METHODS.get((suffix, method), {})
    return {part: row for part, row in rows.items() if row in PUBLISHED[benchmark]}


def _parts(experiment: str) -> tuple[str, str]:
    """'cifar10_lt_if50_paco' and 'teacher/cifar10_paco_if100' -> 'cifar10', 'paco'."""
    name = re.sub(r"_lt(?=_|$)|_if\d+", "", experiment.removeprefix("teacher/"))
    data, _, suffix = name.partition("_")
    return data, suffix
