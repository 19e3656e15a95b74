"""What measured numbers depend on; nothing that names the machine."""

import os
import platform
import re
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

Plain = dict[str, Any]
# What makes bf16 or int8 products fast on a CPU, as Linux calls it.
FEATURES = ("avx2", "avx512f", "avx512_bf16", "avx512_fp16", "amx_bf16", "amx_tile", "sve", "bf16")
LIBRARIES = ("torch", "torchvision", "timm", "lightning", "numpy", "pillow")


def machine() -> Plain:
    """The processor, its features, the GPUs, and the versions of what computes."""
    return {
        "cpu": _cpu_model(),
        "cpu_cores": os.cpu_count(),
        "cpu_features": _cpu_features(),
        "threads": torch.get_num_threads(),
        "memory_gib": _memory_gib(),
        "gpus": [_gpu(i) for i in range(torch.cuda.device_count())],
        "cuda": torch.version.cuda if torch.cuda.is_available() else None,
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
        "system": platform.system(),
        "python": platform.python_version(),
        **{name: version(name) for name in LIBRARIES},
    }


def _gpu(index: int) -> Plain:
    properties = torch.cuda.get_device_properties(index)
    return {"name": properties.name, "memory_gib": round(properties.total_memory / 2**30, 1)}


def _cpu_model() -> str:
    """The processor's name; where the system does not tell, its architecture."""
    found = re.search(r"^model name\s*:\s*(.+)$", _cpu_info(), re.MULTILINE)
    return found[1] if found else platform.processor() or platform.machine()


def _cpu_features() -> list[str]:
    found = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", _cpu_info(), re.MULTILINE)
    known = set(found[1].split()) if found else set()
    return [name for name in FEATURES if name in known]


def _cpu_info() -> str:
    try:
        return Path("/proc/cpuinfo").read_text()
    except OSError:
        return ""


def _memory_gib() -> float | None:
    """Memory of the machine, where the system tells."""
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (ValueError, OSError, AttributeError):
        return None
