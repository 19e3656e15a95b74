"""A stage's metrics as one CSV file that a resumed run goes on with."""

import csv
import os
from argparse import Namespace
from collections.abc import Mapping
from io import StringIO
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

_Row = dict[str, str]


class AppendingCSVLogger(Logger):
    """FOLDER/metrics.csv as Lightning's `CSVLogger` writes it, but the rows of an earlier process stay.

    Lightning's deletes the file as soon as its trainer begins: a process killed before it logs leaves none.
    A row for each (epoch, step), a column for each metric: a stage logs once an epoch, so that each writing is of
    the whole file, atomically. Only the first rank writes. Hyper-parameters are in the run's config.yaml.

    Args:
        folder: the stage's folder; made when the first row is written.
    """

    def __init__(self, folder: str | Path) -> None:
        self.path = Path(folder) / "metrics.csv"
        self._rows: dict[tuple[str, str], _Row] | None = None

    @property
    def name(self) -> str:
        """No further folder: metrics.csv lies in the stage's own."""
        return ""

    @property
    def version(self) -> str:
        """None either."""
        return ""

    @property
    def save_dir(self) -> str:
        """The stage's folder."""
        return str(self.path.parent)

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace | None = None) -> None:
        """Write nothing."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Tensor | float], step: int | None = None) -> None:
        """Add the metrics to the row of their epoch and step.

        Args:
            metrics: name -> number; 'epoch', where it is among them, names the row.
            step: the global step; None counts as the step of the last row.
        """
        rows = self._read()
        values = {name: _text(value) for name, value in metrics.items() if name != "step"}
        last = next(reversed(rows), ("", "0"))[1]
        epoch, place = values.get("epoch", ""), last if step is None else str(step)
        rows.setdefault((epoch, place), {"epoch": epoch, "step": place}).update(values)
        self.save()

    @rank_zero_only
    def keep_until(self, step: int) -> None:
        """Drop the rows past a checkpoint, which the resumed run will write again.

        Args:
            step: the checkpoint's global step; rows of a greater one go. Lightning counts a row's step from
                0, so the row of this very step is written again, and merged with the one that stays.
        """
        self._rows = {key: row for key, row in self._read().items() if int(key[1]) <= step}
        if self.path.exists():
            self.save()

    @rank_zero_only
    def save(self) -> None:
        """Write the whole file."""
        text, rows = StringIO(newline=""), self._read()
        columns = list(dict.fromkeys(name for row in ({"epoch": "", "step": ""}, *rows.values()) for name in row))
        writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows.values())
        self.path.parent.mkdir(parents=True, exist_ok=True)
        draft = self.path.with_name(f".{self.path.name}.tmp")
        draft.write_text(text.getvalue(), newline="")
        os.replace(draft, self.path)

    def _read(self) -> dict[tuple[str, str], _Row]:
        if self._rows is None:
            text = self.path.read_text() if self.path.exists() else ""
            self._rows = {(row["epoch"], row["step"]): row for row in csv.DictReader(StringIO(text, newline=""))}
        return self._rows


def _text(value: Tensor | float | str) -> str:
    """A number as Python writes it, whole epochs without a point: `repr` loses no digit."""
    plain = value.item() if isinstance(value, Tensor) else value
    return str(int(plain)) if isinstance(plain, float) and plain.is_integer() and abs(plain) < 1e15 else str(plain)
