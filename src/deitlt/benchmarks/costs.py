"""What each part of a step costs, from what torch's profiler recorded: forward and backward together."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from torch.autograd import DeviceType  # type: ignore[attr-defined]
from torch.autograd.profiler_util import FunctionEvent

from deitlt.benchmarks.ranges import PREFIX, REST

WAITING = "waiting for data"
IDLE = "Python, and the device idle"
# Ranges that torch itself records, by the beginnings of their names.
_KNOWN = {"enumerate(DataLoader)": WAITING, "Optimizer.": "optimizer", "Callback.on_train_batch_end": "moving average"}
_BACKWARD = "autograd::engine::evaluate_function"
_MICROSECONDS = 1e6
_KINDS = {
    "attention": re.compile(r"flash|fmha|attention", re.IGNORECASE),
    "convolutions": re.compile(r"conv|wgrad|dgrad|fprop", re.IGNORECASE),
    "matrix products": re.compile(r"gemm|gemv|matmul|cutlass|nvjet|::(add|b|badd)?mm\b|linear", re.IGNORECASE),
    "fused by the compiler": re.compile(r"triton|fused"),
}


def seconds_by_part(events: Iterable[FunctionEvent], on_gpu: bool, whole: float) -> dict[str, float]:
    """Seconds of each part.

    An operation belongs to the innermost named range around it; one of the backward pass to the part whose
    forward operation has its sequence number. On a GPU it is its kernels' time that counts, on the CPU its own.
    What has no part, as all of a compiled network, is told apart by kinds of operations.

    Args:
        events: of the profiler.
        on_gpu: whether the steps ran on a GPU.
        whole: seconds that the steps took; what no part explains of them is `IDLE`.

    Returns:
        Part -> seconds, falling; they sum to `whole`, unless parts of the device worked at once.
    """
    host = sorted((e for e in events if e.device_type == DeviceType.CPU), key=lambda e: e.time_range.start)
    of_forward = _forward_parts(host)
    found: defaultdict[str, float] = defaultdict(float)
    for event in host:
        part = _part(event, of_forward) or IDLE
        for name, microseconds in _times(event, on_gpu):
            found[_kind(name) if part == REST else part] += microseconds / _MICROSECONDS
    found[IDLE] += max(0.0, whole - sum(found.values()))
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def _times(event: FunctionEvent, on_gpu: bool) -> list[tuple[str, float]]:
    """What an event itself did: names of kernels or of the operation, and microseconds."""
    if on_gpu:
        # A range has a shadow among the kernels, as long as all of them within it.
        kernels = (kernel for kernel in event.kernels if kernel.name != event.name and _range(kernel.name) is None)
        return [(kernel.name, kernel.duration) for kernel in kernels]
    return [(event.name, event.self_cpu_time_total)]


def _kind(name: str) -> str:
    """The kind of an operation or kernel by its name."""
    return next((kind for kind, pattern in _KINDS.items() if pattern.search(name)), REST)


def _forward_parts(events: Iterable[FunctionEvent]) -> dict[int, str]:
    """Sequence number of a forward operation -> its part.

    The number that an operation sees is the next that will be given out, so that of several it is the last
    which has taken it.
    """
    parts = {}
    for event in events:
        if event.sequence_nr >= 0 and not _in_backward(event) and (part := _named(event)) is not None:
            parts[event.sequence_nr] = part
    return parts


def _part(event: FunctionEvent, of_forward: Mapping[int, str]) -> str | None:
    """The part that an event belongs to; None for what stands in no range."""
    node: FunctionEvent | None = event
    while node is not None:
        if (name := _range(node.name)) is not None:
            return name
        if node.name.startswith(_BACKWARD):
            return of_forward.get(node.sequence_nr, REST)
        node = node.cpu_parent
    return None


def _named(event: FunctionEvent) -> str | None:
    node: Any = event
    while node is not None:
        if (name := _range(node.name)) is not None:
            return name
        node = node.cpu_parent
    return None


def _in_backward(event: FunctionEvent) -> bool:
    node: Any = event
    while node is not None:
        if node.name.startswith(_BACKWARD):
            return True
        node = node.cpu_parent
    return False


def _range(name: str) -> str | None:
    """The part that a range of this name stands for."""
    if name.startswith(PREFIX):
        return name.removeprefix(PREFIX)
    return next((part for start, part in _KNOWN.items() if name.startswith(start)), None)
