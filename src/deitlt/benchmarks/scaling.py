"""Measures how time and memory grow with images, classes, image size, batch and ranks."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from deitlt.benchmarks.index_memory import in_own_process
from deitlt.benchmarks.ranks import measure_ranks
from deitlt.benchmarks.scaling_probes import (
    FEWEST_IMAGES,
    PATCH,
    Cost,
    accuracy_cost,
    loss_cost,
    order_cost,
    split_cost,
    step_cost,
)
from deitlt.errors import ConfigError

Plain = dict[str, Any]
Probe = Callable[[int, int], Cost]
WORSE = 1.3  # times the values' own growth, from which on a growth is called worse than linear: times waver
LEAST = {"images": FEWEST_IMAGES, "classes": 3, "pixels": PATCH, "batch": 1, "devices": 1}
_MIB = 2**20


def measure_scaling(config: DictConfig) -> Plain:
    """Measures each axis of `scaling`, one value after the other; the first value is what the others are compared with.

    Returns:
        Rows: axis, what was measured, value, seconds, MiB, and the growth of each over the first value; `worse`:
        what took more time than its axis grew.

    Raises:
        ConfigError: an axis without values, or with one that is too small.
    """
    options = config.scaling
    for axis, least in LEAST.items():
        _check(axis, list(options[axis]), least)
    rows = [
        row
        for axis, what, probe in _probes()
        for row in _grown(axis, what, list(options[axis]), partial(_costs, probe, config.repeats))
    ]
    rows += _ranks(config)
    return {
        "rows": rows,
        "worse": [f"{row['what']} at {row['value']:,} {row['axis']}" for row in rows if is_worse(row)],
    }


def _check(axis: str, values: Sequence[Any], least: int) -> None:
    """Raise ConfigError where there is nothing to measure, or too little of it."""
    if not values or not all(isinstance(value, int) and value >= least for value in values):
        raise ConfigError(
            f"scaling.{axis}={values} must be whole numbers of at least {least}; type "
            f"scaling.{axis}=[{least},{2 * least}], say."
        )


def _probes() -> Iterable[tuple[str, str, Probe]]:
    """Axis, what is measured, and by what."""
    yield "images", "splits", split_cost
    yield "images", "order of an epoch", order_cost
    yield "classes", "step", partial(step_cost, "classes")
    yield "classes", "loss with its weights", partial(loss_cost, "classes")
    yield "classes", "grouped accuracy", partial(accuracy_cost, "classes")
    yield "pixels", "step", partial(step_cost, "pixels")
    yield "batch", "step", partial(step_cost, "batch")


def _costs(probe: Probe, repeats: int, value: int) -> Cost:
    """One value's cost: on a GPU here; else in a process of its own, whose memory began with nothing."""
    if torch.cuda.is_available():
        return probe(value, repeats)
    cost: Cost = in_own_process(partial(_on_one_thread, probe), value, repeats)
    return cost


def _on_one_thread(probe: Probe, value: int, repeats: int) -> Cost:
    torch.set_num_threads(1)  # a forked process has none of its parent's other threads
    return probe(value, repeats)


def _grown(axis: str, what: str, values: Sequence[int], cost_of: Callable[[int], Cost]) -> list[Plain]:
    """A row a value."""
    costs = [cost_of(value) for value in values]
    first = costs[0]
    return [
        {
            "axis": axis,
            "what": what,
            "value": value,
            "value_factor": round((value / values[0]) ** (2 if axis == "pixels" else 1), 3),
            "seconds": cost.seconds,
            "seconds_factor": round(cost.seconds / first.seconds, 3),
            "mib": round(cost.memory / _MIB, 2),
            "mib_factor": round(cost.memory / first.memory, 3) if first.memory > 0 else None,
        }
        for value, cost in zip(values, costs, strict=True)
    ]


def _ranks(config: DictConfig) -> list[Plain]:
    """A row for one rank and for each number of ranks: seconds of an image over all ranks' images."""
    rows: list[Plain] = []
    for devices in config.scaling.devices:
        if devices == 1:
            continue
        once = OmegaConf.merge(config, {"repeats": 1, "ranks": {"devices": devices}})
        found = measure_ranks(once)  # type: ignore[arg-type]
        one, _, several = found["cases"]
        rows += [] if rows else [_rank_row(1, one, one)]
        rows.append(_rank_row(devices, several, one))
    return rows


def _rank_row(devices: int, case: Plain, one: Plain) -> Plain:
    took = 1 / case["images_per_second"]
    factor = round(one["images_per_second"] * took, 3)
    return {
        "axis": "devices",
        "what": "an image, with equal images of each rank",
        "value": devices,
        "value_factor": 1.0,
        "seconds": took,
        "seconds_factor": factor,
        "mib": None,
        "mib_factor": None,
    }


def is_worse(row: Plain) -> bool:
    """Whether a row's time grew clearly more than its value did."""
    worse: bool = row["seconds_factor"] > WORSE * row["value_factor"]
    return worse


def scaling_rows(found: Plain) -> list[tuple[str, str]]:
    """The results, for a table."""
    rows = []
    for row in found["rows"]:
        memory = "" if row["mib"] is None else f", {row['mib']:.1f} MiB"
        grown = f"{1000 * row['seconds']:.2f} ms ({row['seconds_factor']:.2f} x){memory}"
        rows.append((f"{row['axis']} {row['value']:,}: {row['what']}", grown))
    return [*rows, ("worse than linear in time", "; ".join(found["worse"]) or "nothing")]
