"""The table is compared with the paper's figures in another arrangement: by data set and not by row."""

import pytest

from deitlt.reports.published import PUBLISHED, ROWS

# Data set and tail -> the rows in the table's order; all, and head/mid/tail where they are published.
TABLE = {
    "CIFAR-10-LT, imbalance 100": "81.9 86.8 62.6 70.2 59.1 84.8 87.5",
    "CIFAR-10-LT, imbalance 50": "84.8 88.6 70.1 77.5 68.2 87.5 89.8",
    "CIFAR-100-LT, imbalance 100": "45.4 52.8 35.0 31.3 38.1 52.0 55.6",
    "CIFAR-100-LT, imbalance 50": "49.4 56.6 39.0 39.1 44.1 54.1 60.5",
    "ImageNet-LT": "53.1,62.0,52.1,32.8 57.5,62.1,58.8,39.3 37.5,56.9,30.4,10.3 - "
    "48.4,70.4,40.9,12.8 55.6,65.2,54.0,37.1 59.1,66.6,58.3,40.0",
    "iNaturalist-2018": "70.1,64.1,70.5,71.2 73.4,66.3,73.6,75.2 54.2,64.3,53.9,52.1 - "
    "61.0,72.9,62.8,55.8 72.9,69.0,73.3,73.3 75.1,70.3,75.2,76.2",
}


@pytest.mark.parametrize("benchmark", PUBLISHED, ids=lambda benchmark: benchmark.title)
def test_the_published_numbers(benchmark):
    cells = TABLE[benchmark.title].split()
    for row, cell in zip(ROWS, cells, strict=True):
        if cell == "-":
            assert row not in PUBLISHED[benchmark]
        else:
            assert [f"{value:.1f}" for value in PUBLISHED[benchmark][row].values()] == cell.split(",")


def test_there_are_six_benchmarks_and_forty_cells():
    assert [benchmark.title for benchmark in PUBLISHED] == list(TABLE)
    assert sum(len(rows) for rows in PUBLISHED.values()) == 40


def test_nobody_can_change_a_published_number():
    first = next(iter(PUBLISHED))
    with pytest.raises(TypeError):
        PUBLISHED[first]["ViT"] = {"all": 99.0}
    with pytest.raises(TypeError):
        PUBLISHED[first]["ViT"]["all"] = 99.0
