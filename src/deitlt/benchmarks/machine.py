"""What measured figures depend on: the machine, clocks and memory."""

import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import Any

import torch

from deitlt.engine.stage_config import cpu_told

Plain = dict[str, Any]
Work = Callable[[], object]
Seconds = Mapping[str, list[float]]

LIBRARIES = ("torch", "torchvision", "timm", "lightning", "numpy", "pillow")
MATRIX_SIZES = {"cpu": (512, 1024, 2048), "cuda": (2048, 4096, 8192, 16384)}
DTYPES = {"bf16": torch.bfloat16, "16": torch.float16, "32": torch.float32, "64": torch.float64}


def machine() -> Plain:
    """The processor, its features, the GPUs, and the versions of what computes; nothing that names the machine."""
    model, features = cpu_told()
    gpus = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    return {
        "cpu": model or platform.processor() or platform.machine(),
        "cpu_cores": os.cpu_count(),
        "cpu_features": features,
        "threads": torch.get_num_threads(),
        "gpus": [{"name": gpu.name, "memory_gib": round(gpu.total_memory / 2**30, 1)} for gpu in gpus],
        "cuda": torch.version.cuda if gpus else None,
        "system": platform.system(),
        "python": platform.python_version(),
        **{name: version(name) for name in LIBRARIES},
    }


def synchronize(device: torch.device) -> None:
    """Wait until the device has done what it was asked."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds(work: Work, device: torch.device) -> float:
    """How long one call takes, all that it asked of the device included."""
    synchronize(device)
    start = time.perf_counter()
    work()
    synchronize(device)
    return time.perf_counter() - start


def ratio(found: Seconds, first: str, second: str) -> float:
    """The median over the rounds of the first's seconds over the second's."""
    return statistics.median(a / b for a, b in zip(found[first], found[second], strict=True))


def peak_memory(device: torch.device) -> Plain:
    """The most memory so far in MiB: of tensors on a GPU, else of this process, and of its largest ended worker."""
    if device.type == "cuda":
        return {"of": "tensors on the GPU", "mib": torch.cuda.max_memory_allocated(device) / 2**20}
    unit = 2**20 if sys.platform == "darwin" else 2**10
    own, workers = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return {"of": "the process since its start", "mib": own / unit, "largest_worker_mib": workers / unit}


def matrix_peak(device: torch.device, precision: str, sizes: tuple[int, ...] | None = None, repeats: int = 5) -> float:
    """The most operations a second of products of square matrices, over their sizes.

    Args:
        device: where they are multiplied.
        precision: as Lightning names it, such as '32-true' or 'bf16-mixed'.
        sizes: of the matrices; None: the device's.
        repeats: products of which the median counts.
    """
    dtype = DTYPES[precision.partition("-")[0]]
    best = 0.0
    for size in sizes or MATRIX_SIZES[device.type]:
        a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
        calls = max(1, 4096**3 // size**3) if device.type == "cuda" else 1  # a launch takes longer than a small one

        def products(a: torch.Tensor = a, b: torch.Tensor = b, calls: int = calls) -> None:
            for _ in range(calls):
                torch.mm(a, b)

        taken = statistics.median([seconds(products, device) for _ in range(1 + repeats)][1:])
        best = max(best, 2 * size**3 * calls / taken)
    return best
