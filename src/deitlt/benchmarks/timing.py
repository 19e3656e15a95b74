"""Seconds of alternatives that take turns, so that a drift of the machine's speed meets all of them alike."""

import statistics
import time
from collections.abc import Callable, Mapping

import torch

Work = Callable[[], object]
Seconds = dict[str, list[float]]


def seconds(work: Work, device: torch.device) -> float:
    """How long one call takes, all that it asked of the device included."""
    finish(device)
    start = time.perf_counter()
    work()
    finish(device)
    return time.perf_counter() - start


def finish(device: torch.device) -> None:
    """Wait until the device has done what it was asked."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def in_turns(works: Mapping[str, Work], repeats: int, device: torch.device, warmup: int = 1) -> Seconds:
    """Each alternative once, then each again: A B C, A B C, ...

    Args:
        works: name -> what is timed.
        repeats: rounds that count.
        device: where the work is done.
        warmup: rounds before them that do not count.

    Returns:
        name -> seconds of each counted round, in the order of the rounds.
    """
    found: Seconds = {name: [] for name in works}
    for turn in range(-warmup, repeats):
        for name, work in works.items():
            took = seconds(work, device)
            if turn >= 0:
                found[name].append(took)
    return found


def median(values: list[float]) -> float:
    """The median of one alternative's rounds, in seconds."""
    return statistics.median(values)


def ratio(found: Mapping[str, list[float]], first: str, second: str) -> float:
    """The median over the rounds of the first's seconds over the second's."""
    return statistics.median(a / b for a, b in zip(found[first], found[second], strict=True))
