"""Reads an offline run's `.wandb` file back: W&B has no reader of its own.

The file is a header of 7 bytes, then LevelDB's log format: blocks of 32 KiB in which each frame is a checksum
(4 bytes), a length (2), a type (1: whole, 2: first, 3: middle, 4: last) and a piece of a `Record`.
"""

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wandb.proto import wandb_internal_pb2

_BLOCK, _HEADER, _FRAME = 32768, 7, 7
_WHOLE, _LAST = 1, 4


@dataclass
class OfflineRun:
    """What a run recorded. history: a dict a row; metrics: what `define_metric` said, by name or pattern."""

    history: list[dict[str, Any]] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)
    run: Any = None
    exit_code: int | None = None


def records(path: Path) -> Iterator[Any]:
    """The records of a `.wandb` file, in order."""
    content = path.read_bytes()
    place, message = _HEADER, b""
    while place + _FRAME <= len(content):
        if _BLOCK - place % _BLOCK < _FRAME:  # the rest of a block that no frame fits into
            place += _BLOCK - place % _BLOCK
            continue
        _, length, kind = struct.unpack_from("<IHB", content, place)
        message += content[place + _FRAME : place + _FRAME + length]
        place += _FRAME + length
        if kind in (_WHOLE, _LAST):
            yield wandb_internal_pb2.Record.FromString(message)
            message = b""


def read_run(folder: Path) -> OfflineRun:
    """The one offline run under a folder."""
    (path,) = folder.glob("**/offline-run-*/*.wandb")
    run = OfflineRun()
    for record in records(path):
        _take(run, record)
    return run


def _take(run: OfflineRun, record: Any) -> None:
    kind = record.WhichOneof("record_type")
    body = getattr(record, kind)
    if kind == "history":
        run.history.append(_items(body.item))
    elif kind == "summary":
        run.summary.update(_items(body.update))
    elif kind == "config":
        run.config.update(_items(body.update))
    elif kind == "run":
        run.run = body
        run.config.update(_items(body.config.update))
    elif kind == "metric":
        run.metrics[body.name or body.glob_name] = body
    elif kind == "files":
        run.files += [file.path for file in body.files]
    elif kind == "exit":
        run.exit_code = body.exit_code


def _items(items: Any) -> dict[str, Any]:
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}
