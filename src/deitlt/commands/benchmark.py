"""`deitlt benchmark part=NAME`: measures training or a step's profile, prints a table and writes JSON."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from deitlt.errors import ConfigError, nearest

Plain = dict[str, Any]
PARTS = ("training", "profile")


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
    from deitlt.benchmarks.machine import machine  # brings torch along, as the rest does
    from deitlt.engine.run_folder import write_json

    measure, rows = _part(config.part)
    found = measure(config)
    write_json(output, {"part": config.part, **found, "machine": machine()})
    console = Console()
    console.print(_table(config.part, rows(found)))
    console.print(f"more: {output}", highlight=False, soft_wrap=True, markup=False)


def _part(name: str) -> tuple[Callable[[DictConfig], Plain], Callable[[Plain], list[list[str]]]]:
    """What measures a part, and what makes a table of it."""
    if name == "profile":
        from deitlt.benchmarks.profile import measure_profile, profile_table

        return measure_profile, profile_table
    from deitlt.benchmarks.training import measure_training, training_table

    return measure_training, training_table


def _table(part: str, rows: Sequence[Sequence[str]]) -> Table:
    table = Table(title=f"benchmark of the {part}", title_justify="left")
    table.add_column(rows[0][0])
    for name in rows[0][1:]:
        table.add_column(name, justify="right")
    for row in rows[1:]:
        table.add_row(*row)
    return table
