"""Whether two runs are equal to the last bit."""

import csv

import torch

from deitlt.checkpoints import read_checkpoint


def same(one, other, place=""):
    """Whether two checkpoints' contents are equal to the last bit; says where they are not."""
    assert type(one) is type(other), place
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other), place
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), place
        for key in one:
            same(one[key], other[key], f"{place}/{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), place
        for i, (a, b) in enumerate(zip(one, other, strict=True)):
            same(a, b, f"{place}/{i}")
    else:
        assert one == other, place


def same_end(run, whole, stage):
    """Weights, average, optimiser and counters of two runs' stage, and what each epoch logged."""
    one, other = (read_checkpoint(folder / stage / "last.ckpt") for folder in (run, whole))
    for part in ("state_dict", "optimizer_states", "epoch", "global_step", *(("ema",) if stage == "student" else ())):
        same(one[part], other[part], part)
    assert losses(run, stage) == losses(whole, stage)


def losses(run, stage):
    """(epoch, loss, learning rate) of each row of training; no epoch may come twice."""
    with (run / stage / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["train/loss"]]
    epochs = [row["epoch"] for row in rows]
    assert len(set(epochs)) == len(epochs)
    return [(row["epoch"], row["train/loss"], row["train/lr"]) for row in rows]
