"""How long the device has nothing to do between two steps."""

import time

import torch

from deitlt.benchmarks.timing import finish

Mark = float | torch.cuda.Event


class Waiting:
    """Adds up the gaps between the end of a step and the start of the next batch's work on the device.

    On a GPU both ends are events of its stream, so that a gap is time in which the GPU itself stood still, however
    far the host is ahead; nothing waits for the GPU before `seconds` is asked. Gaps inside a step are not seen. On
    the CPU, where the work is done as it is asked for, a gap is wall time.

    Args:
        device: where the steps run.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._begun: Mark | None = None
        self._gaps: list[tuple[str, Mark, Mark]] = []

    def begin(self) -> None:
        """A step has ended."""
        self._begun = self._mark()

    def end(self, kind: str) -> None:
        """The next work begins; the gap before it is one of this kind. Without a gap nothing happens."""
        if self._begun is not None:
            self._gaps.append((kind, self._begun, self._mark()))
            self._begun = None

    def seconds(self, kind: str) -> float:
        """Seconds of all gaps of a kind."""
        finish(self.device)
        return sum(_between(*marks) for which, *marks in self._gaps if which == kind)

    def clear(self) -> None:
        """Forget all gaps."""
        self._gaps.clear()

    def _mark(self) -> Mark:
        if self.device.type != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record(torch.cuda.current_stream(self.device))
        return event


def _between(first: Mark, second: Mark) -> float:
    if isinstance(first, float):
        assert isinstance(second, float)
        return second - first
    assert isinstance(second, torch.cuda.Event)
    milliseconds: float = first.elapsed_time(second)
    return milliseconds / 1000
