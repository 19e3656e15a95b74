"""Which runs belong together: those of one data set and tail, whose numbers may be compared."""

from collections.abc import Mapping, Sequence
from typing import Any

from deitlt.reports.runs import Run


def by_data(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """The runs of each data set under its title, in the order in which they were given.

    Runs of one data set have the same classes and the same training images per class.
    """
    gathered: dict[tuple[object, ...], list[Run]] = {}
    for run in runs:
        key = (*(run.metrics.get("class_names") or ()), *(run.metrics.get("counts") or ()))
        gathered.setdefault(key, []).append(run)
    titled: dict[str, list[Run]] = {}
    for found in gathered.values():
        title = data_title(found[0].metrics)
        same = sum(known == title or known.startswith(f"{title} (") for known in titled)
        titled[f"{title} ({same + 1})" if same else title] = found
    return titled


def data_title(metrics: Mapping[str, Any]) -> str:
    """'digits, imbalance 20: 10 classes, 405 images'."""
    return f"{data_name(metrics)}: {data_size(metrics)}"


def data_size(metrics: Mapping[str, Any]) -> str:
    """'10 classes, 405 images'."""
    counts = metrics.get("counts") or []
    return f"{len(counts):,} classes, {sum(counts):,} images"


def data_name(metrics: Mapping[str, Any]) -> str:
    """'digits, imbalance 20'."""
    factor = metrics.get("imbalance_factor")
    tail = f"imbalance {1 / factor:g}" if factor else "as it is"
    return f"{metrics.get('data') or 'data without a name'}, {tail}"
