"""Measures the index of a large data set: seconds to parse and to open it, and the memory that workers need."""

import hashlib
import multiprocessing
import re
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from torch.utils.data import DataLoader, Dataset, get_worker_info

from deitlt.data.file_index import FileIndex, IndexedImages
from deitlt.data.index_cache import ENDING
from deitlt.data.large import open_list
from deitlt.data.sources import Labels

Plain = dict[str, Any]
CLASSES, SMALLEST_SHARE = 8142, 0.01  # iNaturalist-2018's classes, and a tail about as long
_MIB = 2**20


class Paths(Protocol):
    """Files that can be asked for one by one, and their labels [N]."""

    @property
    def labels(self) -> Labels:
        """Labels, [N] int64."""
        ...

    def path(self, index: int, /) -> str:
        """The file of image `index`."""
        ...


class StringPaths:
    """The plain alternative: a list of Python strings."""

    def __init__(self, paths: Sequence[str], labels: Labels) -> None:
        self.paths = list(paths)
        self.labels = labels

    def path(self, index: int) -> str:
        """The file of image `index`."""
        return self.paths[index]


class WholeReads(Dataset[int]):
    """Each item is one reading of every path and label, and the worker that did it."""

    def __init__(self, paths: Paths, workers: int) -> None:
        self.paths = paths
        self.workers = workers

    def __len__(self) -> int:
        return self.workers

    def __getitem__(self, item: int) -> int:
        labels = self.paths.labels
        for i in range(len(labels)):
            assert self.paths.path(i)
            assert labels[i] >= 0
        worker = get_worker_info()
        assert worker is not None
        return int(worker.id)


def measure_index(rows: int, workers: int, repeats: int) -> Plain:
    """Makes a list of generated files, parses it, opens it and reads it in several processes at once.

    Args:
        rows: files in the list; they need not exist.
        workers: processes that each read every row.
        repeats: times that the index is opened.

    Returns:
        Seconds, bytes, and MiB of memory: those of all processes together (each shared page counted once)
        beyond what they need for a list of one row; None where the system does not tell, as only Linux does.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "list.txt"
        write_list(file, rows)
        first, index = _timed(file)
        classes, size = int(index.table.labels.max()) + 1, index.nbytes
        del index  # what this process maps would be shared with all that follow
        openings = [_timed(file)[0] for _ in range(repeats)]
        small = Path(folder) / "one.txt"
        write_list(small, 1)
        nothing, shared, copied = (
            memory_in_own_process(*case, workers) for case in ((small, False), (file, False), (file, True))
        )
    return {
        "rows": rows,
        "classes": classes,
        "workers": workers,
        "start_method": multiprocessing.get_start_method(),
        "parse_seconds": round(first, 3),
        "open_seconds": round(statistics.median(openings), 3),
        "index_bytes": size,
        "workers_mib": _beyond(shared, nothing),
        "workers_mib_list_of_strings": _beyond(copied, nothing),
    }


def write_list(file: Path, rows: int) -> None:
    """A list as long-tailed, and with paths as long, as iNaturalist-2018's."""
    classes = min(CLASSES, rows)
    shares = SMALLEST_SHARE ** np.linspace(0, 1, classes)
    counts = 1 + ((rows - classes) * shares / shares.sum()).astype(np.int64)
    counts[0] += rows - counts.sum()
    with file.open("w") as text:
        for row, label in enumerate(np.repeat(np.arange(classes), counts).tolist()):
            name = hashlib.md5(str(row).encode(), usedforsecurity=False).hexdigest()
            text.write(f"train_val2018/Actinopterygii/{label}/{name}.jpg {label}\n")


def memory_in_own_process(file: Path, as_strings: bool, workers: int) -> int | None:
    """What `memory_of_workers` says in a process that has opened nothing else."""
    if sys.platform != "linux":
        return None
    # Forked, so that nothing is imported anew, and what it has from here is the same for each measurement.
    with ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as own:
        return own.submit(memory_of_workers, file, as_strings, workers).result()


def memory_of_workers(file: Path, as_strings: bool, workers: int) -> int | None:
    """Bytes of this process and its workers together, once each has read every path of a list.

    Args:
        file: the list.
        as_strings: hold a list of Python strings in place of the index.
        workers: processes.

    Returns:
        The sum, in which each shared page counts once, of what they wrote and of the index that they map;
        None where the system does not tell.
    """
    images = IndexedImages(open_list(file), "/data")
    paths = StringPaths([images.path(i) for i in range(len(images))], images.labels) if as_strings else images
    reads = WholeReads(paths, workers)
    warnings.filterwarnings("ignore", message="This DataLoader will create")  # more processes than cores
    # They stay alive for a second epoch, and so until they are measured.
    loader: DataLoader[int] = DataLoader(reads, batch_size=None, num_workers=workers, persistent_workers=True)
    before = set(multiprocessing.active_children())
    readers = set(loader)
    assert readers == set(range(workers)), "a worker has read nothing"
    processes = [worker.pid for worker in set(multiprocessing.active_children()) - before]
    assert len(processes) == workers
    try:
        return sum(_own_bytes(process) for process in ("self", *processes))
    except OSError:
        return None


def index_rows(found: Plain) -> list[tuple[str, str]]:
    """The results, for a table."""
    memory = partial("{:.0f} MiB".format)
    rows = [
        ("rows", f"{found['rows']:,}"),
        ("parse the list, once", f"{found['parse_seconds']:.2f} s"),
        ("open the index", f"{found['open_seconds']:.3f} s"),
        ("size of the index", memory(found["index_bytes"] / _MIB)),
    ]
    for key, words in (("workers_mib", "the index"), ("workers_mib_list_of_strings", "a list of strings instead")):
        text = "not told by this system" if found[key] is None else memory(found[key])
        rows.append((f"memory of {found['workers']} workers and their parent together for {words}", text))
    return rows


def _timed(file: Path) -> tuple[float, FileIndex]:
    start = time.perf_counter()
    index = open_list(file)
    return time.perf_counter() - start, index


def _beyond(all_bytes: int | None, base: int | None) -> float | None:
    return None if all_bytes is None or base is None else round((all_bytes - base) / _MIB, 1)


def _own_bytes(process: int | str | None) -> int:
    """A process's written memory and its part of mapped indexes, each page divided by its number of users (PSS).

    The libraries are left out: their part would change with what else runs on the machine.

    Raises:
        OSError: the system does not tell.
    """
    folder = Path(f"/proc/{process}")
    written = re.findall(r"^Pss_(?:Anon|Shmem):\s+(\d+) kB", (folder / "smaps_rollup").read_text(), re.MULTILINE)
    mapped = re.findall(rf"{re.escape(ENDING)}\n(?:.*\n)*?Pss:\s+(\d+) kB", (folder / "smaps").read_text())
    return 1024 * sum(int(size) for size in (*written, *mapped))
