"""Measures the index of a large data set: seconds to parse and to open it, and the memory that workers need."""

import multiprocessing
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from deitlt.benchmarks.generated_list import write_list
from deitlt.benchmarks.index_memory import Memory, in_own_process, memory_of_epoch
from deitlt.benchmarks.memory import fresh_peak, peak_bytes
from deitlt.data.large import open_list

Plain = dict[str, Any]
STRINGS_UP_TO = 1_000_000  # rows; a list of Python strings takes a gigabyte for each five million, in each worker
_MIB = 2**20


class Opening(NamedTuple):
    """How an index was made: seconds, bytes of its arrays, classes, and bytes of memory at the most."""

    seconds: float
    size: int
    classes: int
    peak: int


def measure_index(rows: int, workers: int, repeats: int, strings: bool | None = None) -> Plain:
    """Makes a list of generated files, parses it, opens it, and reads an epoch of it in several processes.

    Args:
        rows: files in the list; they need not exist.
        workers: processes that share the reading.
        repeats: times that the index is opened.
        strings: measure a list of Python strings, too; None does so up to a million rows.

    Returns:
        Seconds, bytes, and MiB of memory: those of all processes together (each shared page counted once)
        beyond what the same run needs for a list of one row a worker; None where the system does not tell, as
        only Linux does.
    """
    strings = rows <= STRINGS_UP_TO if strings is None else strings
    with tempfile.TemporaryDirectory() as folder:
        file, small, test = (Path(folder) / name for name in ("list.txt", "small.txt", "test.txt"))
        start = time.perf_counter()
        write_list(file, rows)
        written = time.perf_counter() - start
        # At least two rows, as there must be two classes; the training list's second label is the test's.
        write_list(small, max(2, workers))
        test.write_text("test/0.jpg 0\n")
        made = in_own_process(opening, file)
        openings = [in_own_process(opening, file).seconds for _ in range(repeats)]
        nothing = _memory(small, test, workers, False)
        shared = _memory(file, test, workers, False)
        copied = _memory(file, test, workers, True) if strings else None
    return {
        "rows": rows,
        "classes": made.classes,
        "workers": workers,
        "start_method": multiprocessing.get_start_method(),
        "write_seconds": round(written, 3),
        "parse_seconds": round(made.seconds, 3),
        "parse_peak_mib": round(made.peak / _MIB, 1),
        "open_seconds": round(statistics.median(openings), 3),
        "index_bytes": made.size,
        **_beyond("workers", shared, nothing),
        **_beyond("list_of_strings", copied, nothing),
    }


def opening(file: Path) -> Opening:
    """Open a list's index, which parses the list where there is none yet."""
    before, start = fresh_peak(), time.perf_counter()
    index = open_list(file)
    seconds = time.perf_counter() - start
    return Opening(seconds, index.nbytes, int(index.table.labels.max()) + 1, peak_bytes() - before)


def index_rows(found: Plain) -> list[tuple[str, str]]:
    """The results, for a table."""
    rows = [
        ("rows", f"{found['rows']:,}"),
        ("write the list", f"{found['write_seconds']:.2f} s"),
        ("parse the list, once", f"{found['parse_seconds']:.2f} s"),
        ("memory at most while parsing", f"{found['parse_peak_mib']:.0f} MiB"),
        ("open the index", f"{found['open_seconds']:.3f} s"),
        ("size of the index", f"{found['index_bytes'] / _MIB:.0f} MiB"),
    ]
    who = f"{found['workers']} workers and their parent"
    for key, words in (("workers", "the index"), ("list_of_strings", "a list of strings instead")):
        rows.append((f"PSS of {who} for {words}", _told(found[f"{key}_pss_mib"])))
        rows.append(("  of it written by them, or the index", _told(found[f"{key}_own_mib"])))
    return rows


def _memory(file: Path, test: Path, workers: int, as_strings: bool) -> Memory | None:
    if sys.platform != "linux":
        return None
    found: Memory | None = in_own_process(memory_of_epoch, file, test, workers, as_strings)
    return found


def _beyond(name: str, memory: Memory | None, base: Memory | None) -> dict[str, float | None]:
    if memory is None or base is None:
        return {f"{name}_pss_mib": None, f"{name}_own_mib": None}
    whole, own = memory.whole - base.whole, memory.own - base.own
    return {f"{name}_pss_mib": round(whole / _MIB, 1), f"{name}_own_mib": round(own / _MIB, 1)}


def _told(mib: float | None) -> str:
    return "not measured" if mib is None else f"{mib:.0f} MiB"
