import pytest
import torch

from deitlt.benchmarks import scaling
from deitlt.benchmarks.scaling_probes import (
    Cost,
    accuracy_cost,
    loss_cost,
    order_cost,
    split_cost,
    step_cost,
)

SMALL = (
    *("scaling.images=[10000,40000]", "scaling.classes=[10,40]", "scaling.pixels=[16,32]", "scaling.batch=[2,4]"),
    *("scaling.devices=[1]", "repeats=1"),
)


@pytest.fixture(scope="module")
def found(benchmark_config):
    return scaling.measure_scaling(benchmark_config(*SMALL))


def test_each_axis_has_a_row_a_value(found):
    values = {}
    for row in found["rows"]:
        values.setdefault((row["axis"], row["what"]), []).append((row["value"], row["value_factor"]))
    assert values[("images", "splits")] == values[("images", "order of an epoch")] == [(10_000, 1.0), (40_000, 4.0)]
    assert values[("pixels", "step")] == [(16, 1.0), (32, 4.0)]  # by their area
    assert values[("batch", "step")] == [(2, 1.0), (4, 2.0)]
    for what in ("step", "loss with its weights", "grouped accuracy"):
        assert values[("classes", what)] == [(10, 1.0), (40, 4.0)]
    assert all(row["seconds"] > 0 and row["mib"] >= 0 for row in found["rows"])


def test_the_table_has_a_row_for_each_and_what_is_worse_than_linear(found):
    rows = scaling.scaling_rows(found)
    assert len(rows) == len(found["rows"]) + 1
    assert rows[-1][0] == "worse than linear in time"


def test_growth_is_over_the_first_value_and_clearly_more_than_linear_is_named():
    costs = {10: Cost(1.0, 2**20), 100: Cost(9.0, 2**21), 1000: Cost(300.0, 2**30)}
    rows = scaling._grown("images", "splits", list(costs), costs.__getitem__)
    assert [row["seconds_factor"] for row in rows] == [1, 9, 300]
    assert [row["mib_factor"] for row in rows] == [1, 2, 1024]
    assert [scaling.is_worse(row) for row in rows] == [False, False, True]


def test_ranks_are_compared_for_an_image(benchmark_config, monkeypatch):
    cases = [{"images_per_second": 100.0}, {"images_per_second": 1.0}, {"images_per_second": 190.0}]
    asked = []

    def measure(config):
        asked.append(config.ranks.devices)
        return {"cases": cases}

    monkeypatch.setattr(scaling, "measure_ranks", measure)
    rows = scaling._ranks(benchmark_config("scaling.devices=[1,2]"))
    assert asked == [2]
    assert [(row["value"], row["seconds_factor"]) for row in rows] == [(1, 1.0), (2, 0.526)]


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("scaling.images=[1000]", "scaling.images=[1000] must be whole numbers of at least 10000; type"),
        ("scaling.batch=[]", "scaling.batch=[] must be whole numbers of at least 1; type scaling.batch=[1,2], say."),
        ("scaling.pixels=[32,x]", "scaling.pixels=[32, 'x'] must be whole numbers"),
    ],
)
def test_an_axis_without_values_is_refused(complain, word, sentence):
    assert sentence in complain("benchmark", "part=scaling", word, output=None)


@pytest.mark.parametrize(
    "cost",
    [
        lambda: split_cost(10_000, 1),
        lambda: order_cost(1000, 1),
        lambda: step_cost("pixels", 16, 1),
        lambda: loss_cost("classes", 20, 1),
        lambda: accuracy_cost("classes", 20, 1),
    ],
)
def test_a_cost_is_seconds_and_bytes(cost):
    threads = torch.get_num_threads()
    seconds, memory = cost()
    assert seconds > 0
    assert memory >= 0
    assert torch.get_num_threads() == threads
