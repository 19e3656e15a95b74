"""The memory of a data set's processes while they read the whole of it: each shared page counted once (PSS)."""

import multiprocessing
import re
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader, Dataset

from deitlt.data import LongTailDataModule, ShuffledSampler
from deitlt.data.images import ImageDataset, Labels, path_of
from deitlt.data.index_cache import ENDING
from deitlt.data.samplers import KeyedSampler, SampleKey

BATCH = 256  # rows that a worker reads at once, as many as a batch of images may have
LOOKS = 10  # times in an epoch that the memory is looked at

Found = dict[str, float]


@dataclass(frozen=True)
class Memory:
    """Bytes of several processes together.

    whole: all that they map, libraries too: their PSS. own: of this, what they wrote themselves and the pages
    of an index that they map, which does not depend on what else runs on the machine.
    """

    whole: int
    own: int


class StringPaths:
    """The plain alternative to an index: a list of Python strings."""

    def __init__(self, source: ImageDataset) -> None:
        path = path_of(source)
        assert path is not None
        self.paths: Sequence[str] = [path(i) for i in range(len(source))]
        self.labels: Labels = source.labels

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Any:
        raise NotImplementedError("the files need not exist")

    def path(self, index: int) -> str:
        """The file of image `index`."""
        return self.paths[index]


class RowReads(Dataset[int]):
    """Looks up each row's path and label, as training does before it opens the file.

    Args:
        source: images of files.
    """

    def __init__(self, source: ImageDataset) -> None:
        self.source = source
        self._path: Callable[[int], str] | None = None

    def __getitem__(self, key: SampleKey) -> int:
        if self._path is None:  # found anew in each worker
            self._path = path_of(self.source)
            assert self._path is not None
        return len(self._path(key.index)) + int(self.source.labels[key.index])


def in_own_process(work: Callable[..., Any], *arguments: Any) -> Any:
    """What a call returns in a process that has done nothing else.

    Forked from a server that has imported the package and nothing more: what it starts with is the same for each
    measurement, however much this process holds, or has held and let go of. Its own children start as this one's do.
    """
    method = multiprocessing.get_start_method()
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["deitlt.commands.benchmark"])
    with ProcessPoolExecutor(1, context, _start_others_by, (method,)) as own:
        return own.submit(work, *arguments).result()


def _start_others_by(method: str) -> None:
    multiprocessing.set_start_method(method, force=True)


def memory_of_epoch(train: Path, test: Path, workers: int, as_strings: bool) -> Memory | None:
    """The most that this process and its workers take while an epoch reads every row of a list.

    Args:
        train: the list, opened by the data module as training opens it.
        test: another list of its classes.
        workers: processes that share the reading.
        as_strings: hold a list of Python strings in place of the index.

    Returns:
        None where the system does not tell.
    """
    warnings.filterwarnings("ignore", message="This DataLoader will create")  # more processes than cores
    datamodule = LongTailDataModule("lists", train.parent, train_list=train, test_list=test)
    source = datamodule.splits.train
    if as_strings:
        source = StringPaths(source)
        del datamodule
    batch = max(1, min(BATCH, len(source) // workers))  # each worker gets some
    order = KeyedSampler(ShuffledSampler(source, num_replicas=1, rank=0))
    loader: DataLoader[Any] = DataLoader(RowReads(source), batch, sampler=order, num_workers=workers)
    every = max(1, len(loader) // LOOKS)
    before = set(multiprocessing.active_children())
    found = []
    for step, _ in enumerate(loader, start=1):
        if step % every == 0:
            pids = [worker.pid for worker in set(multiprocessing.active_children()) - before]
            found.append(memory_of(["self", *pids]))
    told = [memory for memory in found if memory is not None]
    return Memory(max(m.whole for m in told), max(m.own for m in told)) if told else None


def memory_of(processes: Sequence[int | str | None]) -> Memory | None:
    """The memory of processes by their ids; None where the system does not tell, as only Linux does."""
    try:
        told = [_memory(Path(f"/proc/{process}")) for process in processes]
    except OSError:
        return None
    return Memory(sum(m.whole for m in told), sum(m.own for m in told))


def _memory(folder: Path) -> Memory:
    """One process's memory, each page divided by the number of its users.

    Raises:
        OSError: the system does not tell.
    """
    rollup = (folder / "smaps_rollup").read_text()
    parts = {name: 1024 * int(size) for name, size in re.findall(r"^(Pss\w*):\s+(\d+) kB", rollup, re.MULTILINE)}
    maps = (folder / "smaps").read_text()
    mapped = re.findall(rf"{re.escape(ENDING)}\n(?:.*\n)*?Pss:\s+(\d+) kB", maps)
    own = parts["Pss_Anon"] + parts["Pss_Shmem"] + 1024 * sum(map(int, mapped))
    return Memory(parts["Pss"], own)
