"""The means over an epoch of what training logs, taken over a stop in the middle of it."""

from collections.abc import Iterator
from typing import Any

import lightning as L
import torch

Sums = dict[str, tuple[float, int]]  # name -> sum over the images so far, and their number, of all ranks together


def sums_so_far(trainer: L.Trainer) -> Sums:
    """What the ranks' means over the epoch at hand are made of; every rank has to ask."""
    sums = {}
    for name, metric in _means(trainer):
        total = torch.stack([metric.value.double().cpu(), metric.cumulated_batch_size.double().cpu()])
        summed = trainer.strategy.reduce(total.to(trainer.strategy.root_device), reduce_op="sum")
        assert isinstance(summed, torch.Tensor)
        sums[name] = float(summed[0]), int(summed[1])
    return sums


def means_so_far(trainer: L.Trainer) -> dict[str, float]:
    """Name of what is logged -> its mean over the epoch at hand and all ranks; every rank has to ask."""
    results = trainer.fit_loop.epoch_loop._results
    return {results[key].meta.name: total / images for key, (total, images) in sums_so_far(trainer).items()}


def add_sums(trainer: L.Trainer, sums: Sums) -> None:
    """Add to this rank's share of each mean what `sums_so_far` found before the stop; one rank has to."""
    for name, metric in _means(trainer):
        if name in sums:
            value, images = sums[name]
            metric.value = metric.value + value
            metric.cumulated_batch_size = metric.cumulated_batch_size + images


def _means(trainer: L.Trainer) -> Iterator[tuple[str, Any]]:
    """Lightning's own sums of what is logged as a mean over the epoch, over the ranks, too."""
    results = trainer.fit_loop.epoch_loop._results
    for name, metric in results.items():
        meta = metric.meta
        of_the_epoch = metric.is_tensor and meta.on_epoch and meta.is_mean_reduction and not metric.has_reset
        if of_the_epoch and not meta.sync.rank_zero_only:  # what one rank logs is logged again as the epoch starts
            yield name, metric
