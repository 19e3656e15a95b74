"""A stage's metrics as one CSV file that a resumed run goes on with."""

import csv
import os
from argparse import Namespace
from collections.abc import Mapping
from io import StringIO
from pathlib import Path
from typing import Any, TypeAlias

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

_Key: TypeAlias = tuple[str, str]  # (epoch, step) as they stand in the file
_Row: TypeAlias = dict[str, str]
_KEYS = ("epoch", "step")


class AppendingCSVLogger(Logger):
    """Writes FOLDER/metrics.csv: a row for each (epoch, step), a column for each metric.

    Lightning's own CSVLogger deletes the rows of an earlier process; this one reads them and goes on. Each
    row is on the disk before `log_metrics` returns. Metrics logged at the same epoch and step share a row; a
    new metric adds a column. Only the first rank writes.

    Args:
        folder: the stage's folder; made when the first row is written.
    """

    def __init__(self, folder: str | Path) -> None:
        super().__init__()
        self.path = Path(folder) / "metrics.csv"
        self._columns: list[str] = list(_KEYS)
        self._rows: dict[_Key, _Row] | None = None  # in the file's order; None until the file was read
        self._last_line = 0  # where the last row begins in the file, in bytes

    @property
    def name(self) -> str:
        """Empty: the folder already says which run and stage this is."""
        return ""

    @property
    def version(self) -> str:
        """Empty: a stage has one file, whatever the number of processes that wrote it."""
        return ""

    @property
    def save_dir(self) -> str:
        """The stage's folder."""
        return str(self.path.parent)

    @property
    def log_dir(self) -> str:
        """The stage's folder."""
        return str(self.path.parent)

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: object, **kwargs: object) -> None:
        """Write nothing: a table of numbers has no place for them, and the run's config.yaml holds them."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Tensor | float], step: int | None = None) -> None:
        """Add the metrics to the row of their epoch and step.

        Args:
            metrics: name -> number; 'epoch', where it is among them, names the row.
            step: the global step; None counts as the step of the last row.
        """
        rows = self._read()
        values = {name: _text(value) for name, value in metrics.items() if name not in _KEYS}
        last = next(reversed(rows), ("", "0"))
        key = (_text(metrics.get("epoch", "")), last[1] if step is None else str(step))
        new_columns = [name for name in values if name not in self._columns]
        self._columns += new_columns
        is_new, is_last = key not in rows, key == last
        rows.setdefault(key, dict(zip(_KEYS, key, strict=True))).update(values)
        if new_columns or not (is_new or is_last) or not self.path.exists():
            self._rewrite()
        else:
            self._write_last(rows[key], replace=not is_new)

    @rank_zero_only
    def keep_until(self, step: int) -> None:
        """Drop the rows past a checkpoint, which the resumed run will write again.

        Args:
            step: the checkpoint's global step; rows of a greater one go. Lightning counts a row's step from
                0, so the row of this very step is written again, and merged with the one that stays.
        """
        rows = self._read()
        kept = {key: row for key, row in rows.items() if int(key[1]) <= step}
        if len(kept) < len(rows):
            self._rows = kept
            self._rewrite()

    def _read(self) -> dict[_Key, _Row]:
        """The rows, read from the file once; a last line that a crash tore is left out and cut off."""
        if self._rows is None:
            self._rows = {}
            if self.path.exists():
                text = self.path.read_bytes().decode()
                whole = text[: text.rfind("\n") + 1]
                reader = csv.DictReader(StringIO(whole, newline=""))
                self._rows = {(row["epoch"], row["step"]): row for row in reader}
                self._columns = list(reader.fieldnames or _KEYS)
                self._rewrite()
        return self._rows

    def _rewrite(self) -> None:
        """The whole file anew, in one piece."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lines = [self._line(row) for row in self._read().values()]
        text = "".join([self._line({name: name for name in self._columns}), *lines]).encode()
        draft = self.path.with_name(f".{self.path.name}.{os.getpid()}.tmp")
        with draft.open("wb") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, self.path)
        self._last_line = len(text) - (len(lines[-1].encode()) if lines else 0)

    def _write_last(self, row: _Row, replace: bool) -> None:
        """Append a row, or write it over the last one."""
        with self.path.open("rb+") as file:
            file.seek(*((self._last_line, os.SEEK_SET) if replace else (0, os.SEEK_END)))
            self._last_line = file.tell()
            file.write(self._line(row).encode())
            file.truncate()
            file.flush()
            os.fsync(file.fileno())

    def _line(self, row: _Row) -> str:
        line = StringIO(newline="")
        csv.DictWriter(line, self._columns, restval="", lineterminator="\n").writerow(row)
        return line.getvalue()


def _text(value: Tensor | float | str) -> str:
    """A number as Python writes it, whole epochs without a point: `repr` loses no digit."""
    plain = value.item() if isinstance(value, Tensor) else value
    return str(int(plain)) if isinstance(plain, float) and plain.is_integer() and abs(plain) < 1e15 else str(plain)
