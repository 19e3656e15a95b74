"""Measures one recipe trained in two ways, such as bf16 with views on the device against fp32 with timm's."""

from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from deitlt.benchmarks.bench import Workload, open_bench, temporary_folder
from deitlt.benchmarks.fitting import fit_in_rounds
from deitlt.benchmarks.machine import machine
from deitlt.benchmarks.recipes import changed
from deitlt.benchmarks.settled_batch import with_batches
from deitlt.benchmarks.timing import Seconds, median, ratio

Plain = dict[str, Any]
FAST, PLAIN = "fast", "plain"


def measure_epoch(config: DictConfig) -> Plain:
    """Trains the recipe with the overrides `epoch.fast` and with `epoch.plain`, a fresh start and a warm-up each turn.

    Returns:
        Overrides and images/s of both; `time_share`: the fast one's time for an epoch over the plain one's, the
        median over the rounds; which instructions for bf16 the CPU has.
    """
    options = config.epoch
    ways = {FAST: list(options.fast), PLAIN: list(options.plain)}
    configs = {name: changed(overrides) for name, overrides in ways.items()}
    took: Seconds = {name: [] for name in ways}
    for _ in range(config.repeats):
        for name, way in configs.items():
            took[name].append(_seconds_per_image(way, config))
    return {
        "stage": options.stage,
        "ways": [
            {"way": name, "overrides": overrides, "images_per_second": round(1 / median(took[name]), 2)}
            for name, overrides in ways.items()
        ],
        "time_share": round(ratio(took, FAST, PLAIN), 4),
        "bf16_instructions": [name for name in machine()["cpu_features"] if "bf16" in name],
    }


def _seconds_per_image(way: DictConfig, config: DictConfig) -> float:
    """Of one round of fresh training, after a warm-up as long; its epochs are cut to whole batches of the recipe's."""
    with temporary_folder() as folder:
        workload = Workload(config.epoch.batches, 1, config.generated)
        way = with_batches(way, [config.epoch.stage], Path(folder), workload)
        bench = open_bench(way, config.epoch.stage, Path(folder), workload)
        (counted,) = fit_in_rounds(bench)
    return counted.seconds / bench.round_images


def epoch_rows(found: Plain) -> list[tuple[str, str]]:
    """The results, for a table."""
    rows = [
        (f"{way['way']}: {' '.join(way['overrides'])}", f"{way['images_per_second']:,.1f} images/s")
        for way in found["ways"]
    ]
    told = ", ".join(found["bf16_instructions"]) or "none that is known"
    return [
        *rows,
        ("the fast one's time over the plain one's", f"{found['time_share']:.2f}"),
        ("the CPU's instructions for bf16", told),
    ]
