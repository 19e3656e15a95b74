"""`deitlt benchmark part=NAME`: measures a part of the machinery, prints a table and writes JSON."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from deitlt.benchmarks.epoch import epoch_rows, measure_epoch
from deitlt.benchmarks.index import index_rows, measure_index
from deitlt.benchmarks.machine import machine
from deitlt.benchmarks.profile import measure_profile, profile_rows
from deitlt.benchmarks.ranks import measure_ranks, ranks_rows
from deitlt.benchmarks.recipe_time import measure_recipe, recipe_table
from deitlt.benchmarks.scaling import measure_scaling, scaling_rows
from deitlt.benchmarks.targets import measure_all, targets_table
from deitlt.benchmarks.training import measure_training
from deitlt.benchmarks.training_table import training_table
from deitlt.benchmarks.views import measure_views, views_rows
from deitlt.engine.run_folder import write_json
from deitlt.errors import ConfigError, nearest

Plain = dict[str, Any]
Rows = Sequence[Sequence[str]]

# Part -> what measures it, and what says its results in rows of a table.
PARTS: dict[str, tuple[Callable[[DictConfig], Plain], Callable[[Plain], Rows]]] = {
    "index": (lambda config: measure_index(config.rows, config.workers, config.repeats, config.strings), index_rows),
    "views": (measure_views, views_rows),
    "epoch": (measure_epoch, epoch_rows),
    "ranks": (measure_ranks, ranks_rows),
    "scaling": (measure_scaling, scaling_rows),
    "profile": (measure_profile, profile_rows),
    "all": (measure_all, targets_table),
    "training": (measure_training, training_table),
    "recipe": (measure_recipe, recipe_table),
}
HEADED = ("training", "recipe", "all")  # their first row names the columns; the others have a name and a value


def main(config: DictConfig) -> None:
    """Measure `part` and write `output`.

    Raises:
        ConfigError: there is no such part, or the output is no JSON file.
    """
    if config.part not in PARTS:
        raise ConfigError(f"part={config.part} cannot be measured; {nearest(str(config.part), PARTS)}")
    output = Path(config.output)
    if output.suffix != ".json":
        raise ConfigError(f"output={output} is no JSON file; type output={output.with_suffix('.json')}.")
    measure, rows = PARTS[config.part]
    found = measure(config)
    write_json(output, {"part": config.part, **found, "machine": machine()})
    console = Console()
    console.print(_table(config.part, rows(found)))
    console.print(f"more: {output}", highlight=False, soft_wrap=True, markup=False)


def _table(part: str, rows: Rows) -> Table:
    table = Table(title=f"benchmark of the {part}", title_justify="left")
    head, body = (rows[0], rows[1:]) if part in HEADED else (("measured", "value"), rows)
    table.add_column(head[0])
    for name in head[1:]:
        table.add_column(name, justify="right")
    for row in body:
        table.add_row(*row)
    return table
