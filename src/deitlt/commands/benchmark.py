"""`deitlt benchmark part=NAME`: measures training or a step's profile, prints a table and writes JSON."""

from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from deitlt.errors import ConfigError


def main(config: DictConfig) -> None:
    """Measure `part` and write `output`.

    Raises:
        ConfigError: the output is no JSON file.
    """
    output = Path(config.output)
    if output.suffix != ".json":
        raise ConfigError(f"output={output} is no JSON file; type output={output.with_suffix('.json')}.")
    from deitlt.benchmarks.machine import machine  # brings torch along, as the rest does
    from deitlt.benchmarks.profile import measure_profile, profile_table
    from deitlt.benchmarks.training import measure_training, training_table
    from deitlt.engine.run_folder import write_json

    is_profile = config.part == "profile"
    found = measure_profile(config) if is_profile else measure_training(config)
    write_json(output, {"part": config.part, **found, "machine": machine()})
    console = Console()
    console.print(_table(config.part, profile_table(found) if is_profile else training_table(found)))
    console.print(f"more: {output}", highlight=False, soft_wrap=True, markup=False)


def _table(part: str, rows: Sequence[Sequence[str]]) -> Table:
    table = Table(title=f"benchmark of the {part}", title_justify="left")
    table.add_column(rows[0][0])
    for name in rows[0][1:]:
        table.add_column(name, justify="right")
    for row in rows[1:]:
        table.add_row(*row)
    return table
