"""`deitlt benchmark part=NAME`: measures a part of the machinery, prints a table and writes JSON."""

import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from deitlt.errors import ConfigError, nearest
from deitlt.tasks.benchmarks.index import index_rows, measure_index
from deitlt.tasks.run_folder import write_json

Plain = dict[str, Any]
Rows = list[tuple[str, str]]

# Part -> what measures it, and what says its results in rows of a table.
PARTS: dict[str, tuple[Callable[[DictConfig], Plain], Callable[[Plain], Rows]]] = {
    "index": (lambda config: measure_index(config.rows, config.workers, config.repeats), index_rows),
}


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


def machine() -> Plain:
    """What the numbers depend on; nothing that names the machine."""
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "cpu_cores": os.cpu_count(),
        "gpus": gpus,
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }


def _table(part: str, rows: Rows) -> Table:
    table = Table(title=f"benchmark of the {part}", title_justify="left")
    table.add_column("measured")
    table.add_column("value", justify="right")
    for row in rows:
        table.add_row(*row)
    return table
