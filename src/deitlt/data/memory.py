"""How much memory a device has left."""

import os
import re
from pathlib import Path

import torch

MEMINFO = Path("/proc/meminfo")
GROUPS = Path("/sys/fs/cgroup")  # what a container may take, in control groups of version 2, else of version 1
_FILES = (
    ("memory.max", "memory.current", "memory.stat"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat"),
)


def free_memory(device: torch.device) -> int:
    """Bytes that a device has left.

    On the CPU it is what the system could give without swapping, its cache of files included, and no more than
    what a container's limit leaves.
    """
    if device.type == "cuda":
        free: int = torch.cuda.mem_get_info(device)[0]
        return free
    limits = [_left_in_group(*files) for files in _FILES]
    return min([_available(), *(left for left in limits if left is not None)])


def _available() -> int:
    """What Linux says is available; elsewhere the pages that nobody uses."""
    told = _number(MEMINFO, r"^MemAvailable:\s+(\d+) kB")
    return 1024 * told if told is not None else os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")


def _left_in_group(limit: str, usage: str, statistics: str) -> int | None:
    """What a limit leaves, files that may be dropped from its cache included; None where there is no limit."""
    most, used = _number(GROUPS / limit, r"^(\d+)"), _number(GROUPS / usage, r"^(\d+)")
    if most is None or used is None:
        return None
    cache = _number(GROUPS / statistics, r"^(?:total_)?inactive_file (\d+)") or 0
    return max(0, most - used + cache)


def _number(file: Path, pattern: str) -> int | None:
    """The number that a pattern finds in a file of the system's; None where there is none."""
    try:
        found = re.search(pattern, file.read_text(), re.MULTILINE)
    except OSError:
        return None
    return int(found[1]) if found else None
