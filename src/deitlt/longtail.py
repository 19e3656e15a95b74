"""Long-tailed data as numbers: images a class, which images those are, and head, mid and tail.

Pure NumPy. The command line imports this file before torch is loaded.
"""

from collections.abc import Sequence
from decimal import ROUND_CEILING, Context

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deitlt.errors import ConfigError, DataError, nearest

KINDS = ("exp", "step")
SCHEMES = ("paper", "shots")
GROUPS = ("head", "mid", "tail")

# The cuts behind the published tables, by number of classes: CIFAR-10/100-LT, ImageNet-LT, iNaturalist-2018.
PUBLISHED_CUTS = {10: (3, 7), 100: (36, 71), 1000: (390, 835), 8142: (842, 4543)}
MANY_SHOT, FEW_SHOT = 100, 20  # head has more than the first, tail fewer than the second


def class_counts(num_classes: int, max_count: int, imbalance_factor: float, kind: str = "exp") -> list[int]:
    """Images of each class in a long-tailed subset, the largest class first.

    ``exp`` (Cui et al., CVPR 2019): ``n_c = int(n_max * IF ** (c / (C - 1)))``. ``step`` (Buda et al.,
    2018): the first C // 2 classes keep ``n_max``, the others get ``int(n_max * IF)``.

    Args:
        num_classes: C.
        max_count: n_max, images of the largest class.
        imbalance_factor: n_min / n_max, in (0, 1]; 0.01 is the literature's "imbalance factor 100".
        kind: ``exp`` or ``step``.

    Raises:
        ConfigError: a factor outside (0, 1], an unknown kind, or a class that is left with no image.
    """
    assert min(num_classes, max_count) >= 1, (num_classes, max_count)
    if kind not in KINDS:
        raise ConfigError(f"data.imbalance_kind={kind} is no kind of imbalance: {nearest(kind, KINDS)}")
    if not 0 < imbalance_factor <= 1:
        raise ConfigError(
            f"data.imbalance_factor={imbalance_factor} must be above 0 and at most 1 (smallest class / "
            "largest class): type data.imbalance_factor=0.01 for what the literature calls 100"
        )
    shares = _exp_shares if kind == "exp" else _step_shares
    counts = [int(max_count * share) for share in shares(num_classes, imbalance_factor)]
    _refuse_empty_class(counts, max_count, imbalance_factor)
    return counts


def _exp_shares(num_classes: int, imbalance_factor: float) -> list[float]:
    last = max(num_classes - 1, 1)  # one class alone is the largest class
    return [float(imbalance_factor ** (c / last)) for c in range(num_classes)]


def _step_shares(num_classes: int, imbalance_factor: float) -> list[float]:
    full = num_classes // 2
    return [1.0] * full + [imbalance_factor] * (num_classes - full)


def _refuse_empty_class(counts: Sequence[int], max_count: int, imbalance_factor: float) -> None:
    if min(counts) >= 1:
        return
    # Rounded up in decimal: 49 * (1 / 49) is below 1 in floating point.
    smallest = Context(prec=4, rounding=ROUND_CEILING).divide(1, max_count)
    raise ConfigError(
        f"data.imbalance_factor={imbalance_factor} leaves class {list(counts).index(0)} with 0 of "
        f"{max_count} images: type data.imbalance_factor={smallest:f} or more"
    )


def subsample(labels: ArrayLike, counts: Sequence[int], seed: int = 0) -> NDArray[np.int64]:
    """Which images a long-tailed subset keeps: the authors' choice and order, index for index.

    One legacy NumPy stream serves all classes: class by class in ascending order, all of the class's
    indices are shuffled and the first n_c are kept, so that the subset is grouped by class.

    Args:
        labels: [N], class ids in 0..C-1, in any order.
        counts: images to keep of each class.
        seed: of the stream; the published splits have 0.

    Returns:
        [sum(counts)] indices into ``labels``.

    Raises:
        DataError: a class has fewer images than its count, or a label has no count.
    """
    ids = np.asarray(labels, dtype=np.int64)
    if ids.size and not 0 <= ids.min() <= ids.max() < len(counts):
        raise DataError(
            f"the labels run from {ids.min()} to {ids.max()}, but there are counts of {len(counts)} classes: "
            f"number the classes from 0 to {len(counts) - 1}"
        )
    available = np.bincount(ids, minlength=len(counts))
    _refuse_short_class(available, counts)
    members = np.split(np.argsort(ids, kind="stable"), np.cumsum(available)[:-1])
    stream = np.random.RandomState(seed)
    for indices in members:  # also where all are kept, for the stream goes on
        stream.shuffle(indices)
    return np.concatenate([indices[:count] for indices, count in zip(members, counts, strict=True)])


def _refuse_short_class(available: NDArray[np.int64], counts: Sequence[int]) -> None:
    for class_id, (has, wanted) in enumerate(zip(available, counts, strict=True)):
        if has < wanted:
            raise DataError(
                f"class {class_id} has {has} images, but {wanted} are to be kept: "
                f"ask for {has} or fewer, or add images to that class"
            )


def by_frequency(counts: Sequence[int]) -> NDArray[np.int64]:
    """Class ids, [C], by falling count; classes with equal counts stay in order of id on every machine."""
    return np.argsort(-np.asarray(counts, dtype=np.int64), kind="stable")


def frequency_groups(
    counts: Sequence[int], scheme: str = "paper", cuts: Sequence[int] | None = None
) -> dict[str, NDArray[np.int64]]:
    """The classes of head, mid and tail, in each group by falling count (ties by id).

    ``paper``: the classes by falling count are cut at two positions. ``shots`` (Liu et al., CVPR 2019):
    more than 100 images, 20 to 100, fewer than 20.

    Args:
        counts: training images of each class.
        scheme: ``paper`` or ``shots``.
        cuts: the two positions of ``paper``; without them those of the published tables for 10, 100, 1000
            and 8142 classes, else 30 % and 70 % of the classes. ``shots`` needs none.

    Returns:
        ``head``, ``mid``, ``tail`` -> class ids; a group without a class is absent.

    Raises:
        ConfigError: an unknown scheme, or cuts that are not two positions in rising order.
    """
    if scheme not in SCHEMES:
        raise ConfigError(f"data.groups={scheme} is no scheme of groups: {nearest(scheme, SCHEMES)}")
    order = by_frequency(counts)
    if scheme == "shots":
        sizes = np.asarray(counts, dtype=np.int64)
        positions = (int((sizes > MANY_SHOT).sum()), int((sizes >= FEW_SHOT).sum()))
    else:
        positions = default_cuts(len(counts)) if cuts is None else _checked_cuts(cuts, len(counts))
    parts = np.split(order, positions)
    return {name: classes for name, classes in zip(GROUPS, parts, strict=True) if classes.size}


def default_cuts(num_classes: int) -> tuple[int, int]:
    """Where ``paper`` cuts the classes by falling count; from 3 classes on, no group is empty."""
    if num_classes in PUBLISHED_CUTS:
        return PUBLISHED_CUTS[num_classes]
    first = max(1, round(0.3 * num_classes))
    return first, max(first, round(0.7 * num_classes))


def _checked_cuts(cuts: Sequence[int], num_classes: int) -> tuple[int, int]:
    if len(cuts) != 2 or not 0 <= cuts[0] <= cuts[1] <= num_classes:
        first, second = default_cuts(num_classes)
        raise ConfigError(
            f"data.group_cuts={list(cuts)} must be two positions in rising order, 0 to {num_classes}: "
            f"type data.group_cuts=[{first},{second}]"
        )
    return int(cuts[0]), int(cuts[1])
