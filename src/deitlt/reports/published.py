"""The numbers that DeiT-LT's paper publishes, as data.

Rangwani, Mondal, Mishra, Asokan, Babu: "DeiT-LT: Distillation Strikes Back for Vision Transformer Training on
Long-Tailed Datasets", CVPR 2024.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

CITATION: Final = "Rangwani et al., DeiT-LT, CVPR 2024"


class Benchmark(NamedTuple):
    """A data set and its tail. data: its name in a configuration. imbalance: n_max / n_min; None: as it is."""

    data: str
    imbalance: int | None
    title: str


CIFAR10_100: Final = Benchmark("cifar10", 100, "CIFAR-10-LT, imbalance 100")
CIFAR10_50: Final = Benchmark("cifar10", 50, "CIFAR-10-LT, imbalance 50")
CIFAR100_100: Final = Benchmark("cifar100", 100, "CIFAR-100-LT, imbalance 100")
CIFAR100_50: Final = Benchmark("cifar100", 50, "CIFAR-100-LT, imbalance 50")
IMAGENET_LT: Final = Benchmark("imagenet_lt", None, "ImageNet-LT")
INAT18: Final = Benchmark("inat18", None, "iNaturalist-2018")

TEACHER_LDAM: Final = "teacher LDAM+DRW+SAM"
TEACHER_PACO: Final = "teacher PaCo+SAM"
VIT: Final = "ViT"
DEIT: Final = "DeiT"
DEIT3: Final = "DeiT-III"
DEIT_LT_LDAM: Final = "DeiT-LT, LDAM teacher"
DEIT_LT_PACO: Final = "DeiT-LT, PaCo teacher"
ROWS: Final = (TEACHER_LDAM, TEACHER_PACO, VIT, DEIT, DEIT3, DEIT_LT_LDAM, DEIT_LT_PACO)

Scores = Mapping[str, float]  # 'all', 'head', 'mid', 'tail' -> percent; a group that is not published is absent

_CIFAR: Final = {  # top-1 of all test images, in the order of `ROWS`
    CIFAR10_100: (81.9, 86.8, 62.6, 70.2, 59.1, 84.8, 87.5),
    CIFAR10_50: (84.8, 88.6, 70.1, 77.5, 68.2, 87.5, 89.8),
    CIFAR100_100: (45.4, 52.8, 35.0, 31.3, 38.1, 52.0, 55.6),
    CIFAR100_50: (49.4, 56.6, 39.0, 39.1, 44.1, 54.1, 60.5),
}
_LARGE: Final = {  # all, head, mid, tail; the paper has no DeiT on these
    IMAGENET_LT: {
        TEACHER_LDAM: (53.1, 62.0, 52.1, 32.8),
        TEACHER_PACO: (57.5, 62.1, 58.8, 39.3),
        VIT: (37.5, 56.9, 30.4, 10.3),
        DEIT3: (48.4, 70.4, 40.9, 12.8),
        DEIT_LT_LDAM: (55.6, 65.2, 54.0, 37.1),
        DEIT_LT_PACO: (59.1, 66.6, 58.3, 40.0),
    },
    INAT18: {
        TEACHER_LDAM: (70.1, 64.1, 70.5, 71.2),
        TEACHER_PACO: (73.4, 66.3, 73.6, 75.2),
        VIT: (54.2, 64.3, 53.9, 52.1),
        DEIT3: (61.0, 72.9, 62.8, 55.8),
        DEIT_LT_LDAM: (72.9, 69.0, 73.3, 73.3),
        DEIT_LT_PACO: (75.1, 70.3, 75.2, 76.2),
    },
}


def _table() -> dict[Benchmark, Mapping[str, Scores]]:
    groups = ("all", "head", "mid", "tail")
    small: dict[Benchmark, dict[str, Scores]] = {
        benchmark: {row: MappingProxyType({"all": value}) for row, value in zip(ROWS, values, strict=True)}
        for benchmark, values in _CIFAR.items()
    }
    large: dict[Benchmark, dict[str, Scores]] = {
        benchmark: {row: MappingProxyType(dict(zip(groups, values, strict=True))) for row, values in rows.items()}
        for benchmark, rows in _LARGE.items()
    }
    return {benchmark: MappingProxyType(rows) for benchmark, rows in (small | large).items()}


# Benchmark -> row -> top-1 accuracies in percent.
PUBLISHED: Final[Mapping[Benchmark, Mapping[str, Scores]]] = MappingProxyType(_table())
