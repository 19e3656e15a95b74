"""Jobs of a sweep that run side by side on one machine, each on GPUs of its own."""

import fcntl
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from io import TextIOWrapper
from itertools import count
from pathlib import Path

import torch
from omegaconf import DictConfig, OmegaConf

DEVICES = ("trainer.devices", "teacher.devices", "student.devices")

VISIBLE = "CUDA_VISIBLE_DEVICES"


@contextmanager
def own_gpus(folder: Path, config: DictConfig) -> Iterator[dict[str, str]]:
    """Variables of the environment that show a job as many GPUs as it uses, while it lasts.

    Jobs of other launchers than joblib's run one after the other, or get their GPUs from a scheduler, and find all of
    them free.

    Args:
        folder: of the sweep; files in it say who uses what.
        config: the job's.
    """
    visible, wanted = visible_gpus(), gpus_wanted(config)
    if wanted is None or wanted >= len(visible):
        yield {}
        return
    with ExitStack() as locks:
        taken = take(folder, visible, wanted, locks)
        yield {VISIBLE: ",".join(taken)}


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, by the names by which CUDA knows them."""
    named = os.environ.get(VISIBLE)
    return [str(i) for i in range(torch.cuda.device_count())] if named is None else [n for n in named.split(",") if n]


def gpus_wanted(config: DictConfig) -> int | None:
    """How many GPUs the largest stage uses; None where it is all that there are, or none, or no number of GPUs."""
    numbers = [number for key in DEVICES if (number := OmegaConf.select(config, key)) is not None]
    if config.trainer.accelerator == "cpu" or not all(isinstance(number, int) and number >= 1 for number in numbers):
        return None  # the job itself refuses what is no number of devices
    return max(map(int, numbers), default=None)


def take(folder: Path, visible: Sequence[str], wanted: int, locks: ExitStack) -> list[str]:
    """GPUs that the fewest jobs use; the system gives back those of a job that is killed.

    Args:
        folder: where the locks' files are.
        visible: names of the GPUs.
        wanted: how many.
        locks: holds them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for layer in count():  # of jobs on one GPU: with more jobs than GPUs, each gets a second one
        held: list[tuple[str, TextIOWrapper]] = []
        for name in visible:
            file = (folder / f".gpu_{socket.gethostname()}_{name}_{layer}.lock").open("w")
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                file.close()
                continue
            held.append((name, file))
            if len(held) == wanted:
                for _, kept in held:
                    locks.enter_context(kept)
                return [gpu for gpu, _ in held]
        for _, file in held:
            file.close()
    raise AssertionError("count() has no end")
