"""The most memory that a measured stage takes."""

import multiprocessing
import re
import resource
import sys
from pathlib import Path
from typing import Any

import torch

Plain = dict[str, Any]
_MIB = 2**20


class PeakMemory:
    """Watches memory from its making on.

    On a GPU it is what tensors take beyond what was taken before. On the CPU it is the largest resident set of this
    process, libraries included, and beside it the workers' proportional sets, in which shared pages count once.
    Only Linux tells the latter two.
    """

    def __init__(self) -> None:
        self._before = 0
        if torch.cuda.is_available():
            torch.cuda.init()  # type: ignore[no-untyped-call]
            self._before = torch.cuda.memory_allocated()
            torch.cuda.reset_peak_memory_stats()
        self._starts_anew = _forget_peak()

    def found(self, device: torch.device) -> Plain:
        """What the peak is ('mib'), of what ('of', in words), and its workers' ('workers_mib'); None where not told."""
        workers = [_kib(f"/proc/{worker.pid}/smaps_rollup", "Pss") for worker in multiprocessing.active_children()]
        told = [kib for kib in workers if kib is not None]
        found: Plain = {"workers": len(workers), "workers_mib": sum(told) / 1024 if len(told) == len(workers) else None}
        if device.type == "cuda":
            mib = (torch.cuda.max_memory_allocated() - self._before) / _MIB
            return {"of": "tensors on the GPU", "mib": mib, **found}
        peak = _kib("/proc/self/status", "VmHWM")
        since = "" if self._starts_anew else ", since it was started"
        return {"of": f"the process's resident set{since}", "mib": None if peak is None else peak / 1024, **found}


def fresh_peak() -> int:
    """Forget the peak so far, a forked process's being its parent's; the bytes that are resident now."""
    _forget_peak()  # only Linux does
    return peak_bytes()


def peak_bytes() -> int:
    """The most memory that this process has had resident since its start or since `fresh_peak`."""
    if (told := _kib("/proc/self/status", "VmHWM")) is not None:
        return 1024 * told
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _forget_peak() -> bool:
    """Have the system begin anew with this process's peak; whether it did."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _kib(file: str, name: str) -> int | None:
    """A value of the system's table of a process; None where there is none."""
    try:
        found = re.search(rf"^{name}:\s+(\d+) kB", Path(file).read_text(), re.MULTILINE)
    except OSError:
        return None
    return int(found[1]) if found else None
