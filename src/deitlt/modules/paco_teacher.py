"""The PaCo teacher's training: queries against keys, a queue and class centres."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from deitlt.errors import ConfigError
from deitlt.losses import PaCoLoss
from deitlt.models import PaCoNetwork
from deitlt.modules.base import ClassifierModule, OptimizerFactory
from deitlt.types import Batch, DataInfo


class Keys(NamedTuple):
    """A micro-batch's keys, unit rows [B, D], and their classes [B]."""

    rows: Tensor
    labels: Tensor


class PaCoTeacherModule(ClassifierModule):
    """Trains a `PaCoNetwork` with `PaCoLoss` (Cui et al., ICCV 2021).

    A batch holds two views of each image: images [2B, 3, H, W], the first views and then the second, targets
    [2B]. The first are queries, the second keys. Keys are made once a batch, before its first pass, and are
    kept for the update: SAM's second pass meets the same keys, and moves neither the key encoder, its
    BatchNorm nor the queue. The key encoder moves once an update; the update's keys enter the queue after
    it, those of every rank and micro-batch, so that the queue is equal on every rank. BatchNorm is each
    rank's own, and batches are not shuffled across ranks before the keys are made (MoCo's guard against
    BatchNorm's giving a query's partner away; with labels a class has many partners).

    Args:
        network: the encoders, the centres and the queue.
        loss: rows, their labels, the queries' logits -> the mean loss of a batch.
        info: classes of the training data.
        optimizer: network -> optimiser of its parameters that have a gradient.
        schedule: time in epochs -> learning rate.

    Raises:
        ConfigError: a network or a loss that is not PaCo's.
    """

    names_tokens = False
    network: PaCoNetwork

    def __init__(
        self,
        network: PaCoNetwork,
        loss: PaCoLoss,
        info: DataInfo,
        optimizer: OptimizerFactory,
        schedule: Callable[[float], float],
    ) -> None:
        if not isinstance(network, PaCoNetwork):
            raise ConfigError("PaCo trains a pair of encoders; type teacher/model=paco_resnet32, say.")
        if not isinstance(loss, PaCoLoss):
            raise ConfigError(f"A pair of encoders cannot learn from {type(loss).__name__}; type teacher/loss=paco.")
        super().__init__(network, loss, info, optimizer, schedule, ("cls",))
        self._window: dict[int, Keys] = {}  # keys of the update's micro-batches, by their place in the epoch

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Set the learning rate and make the batch's keys; a new update first moves the key encoder."""
        super().on_train_batch_start(batch, batch_idx)
        if batch_idx == 0:
            _refuse_other_views(batch)
        if batch_idx % self.trainer.accumulate_grad_batches == 0:
            self._window.clear()
            self.network.move_key_encoder()
        devices = [self.device] if self.device.type == "cuda" else []
        # Dropout in the key encoder must not shift the stream that SAM's second pass repeats.
        with torch.random.fork_rng(devices), self.trainer.precision_plugin.forward_context():
            self._window[batch_idx] = self._keys(batch)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The loss of one batch; outside a Trainer its keys are made here and forgotten."""
        keys = self._window[batch_idx] if batch_idx in self._window else self._keys(batch)
        queries, logits = self.network.queries(batch.images[: len(keys.rows)])
        features = torch.cat([queries, keys.rows, self.network.queue.to(queries)])
        labels = torch.cat([keys.labels, keys.labels, self.network.queue_labels])
        loss: Tensor = self.loss(features, labels, logits)
        self.log_training(loss=loss)
        return loss

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        """Put the keys of a finished update into the queue, as those of one large batch."""
        if not self.ends_update(batch_idx):
            return
        rows = torch.cat([keys.rows for keys in self._window.values()])
        labels = torch.cat([keys.labels for keys in self._window.values()])
        self._window.clear()
        self.network.enqueue(self._everyones(rows).reshape(-1, rows.shape[1]), self._everyones(labels).flatten())

    def _keys(self, batch: Batch) -> Keys:
        images = len(batch.images) // 2
        return Keys(self.network.keys(batch.images[images:]), batch.targets[images:])


def _refuse_other_views(batch: Batch) -> None:
    """A single view, cut in two, would train on pairs of different images, and nobody would notice."""
    if batch.targets.ndim != 1:
        raise ConfigError("PaCo contrasts classes, and mixed images have several; type teacher.transforms.mixing=null.")
    first, second = batch.targets.tensor_split(2)
    if not torch.equal(first, second):
        raise ConfigError("PaCo needs two views of each image; type teacher/transforms=paco_cifar or =paco_imagenet.")
