"""What all modules share: learning-rate schedule, optimiser, and evaluation by token and group."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, cast

import lightning as L
import numpy as np
import torch
from lightning.pytorch.trainer.states import TrainerFn
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import Optimizer

from deitlt.losses import Reweightable
from deitlt.metrics import ClassPairs, Confusions, Fusion, TokenAccuracy, logits_by_token
from deitlt.models import uncompiled
from deitlt.optim import schedule_time
from deitlt.types import DataInfo, ImageBatch, TokenLogits

RAW = "raw"  # the trained weights' name among the evaluated networks
OptimizerFactory = Callable[[nn.Module], Optimizer]


@dataclass(frozen=True)
class Results:
    """One evaluation of one network: accuracies in percent, by token.

    accuracy: token -> name ('all', 'balanced', 'head', 'mid', 'tail', 'top5') -> percent; undefined ones are absent.
    per_class: token -> recall of each class, None for a class without an image.
    hits: token -> whether each image was answered right, [N], in the order of the test set; empty of other splits.
    """

    accuracy: dict[str, dict[str, float]]
    per_class: dict[str, list[float | None]]
    hits: dict[str, NDArray[np.bool_]] = field(default_factory=dict, compare=False)


class ClassifierModule(L.LightningModule):
    """Trains one network and evaluates it, with every network that was added, in one pass.

    Args:
        network: images [B, 3, H, W] -> `TokenLogits`, or logits [B, C].
        loss: what a training step minimises.
        info: classes of the training data.
        optimizer: network -> optimiser of its parameters.
        schedule: time in epochs -> learning rate.
        tokens: which logits are measured: 'cls', 'dist', 'avg'.
    """

    names_tokens = True  # metrics are split/token/name; a teacher has one output: split/name

    def __init__(
        self,
        network: nn.Module,
        loss: Reweightable,
        info: DataInfo,
        optimizer: OptimizerFactory,
        schedule: Callable[[float], float],
        tokens: tuple[str, ...],
    ) -> None:
        super().__init__()
        self.network = network
        self.loss = loss
        self.info = info
        self.optimizer_factory = optimizer
        self.schedule = schedule
        self.tokens = tokens
        self.watched: tuple[str, ...] = ("val",)
        self.spec: dict[str, Any] = {}
        # The networks of each evaluation pass, by name; callbacks add others of the same kind. nn.Module does not look
        # into a plain dict, so an average is neither trained nor saved with us.
        self.evaluated: dict[str, nn.Module] = {RAW: network}
        self._accuracy: dict[tuple[str, str], TokenAccuracy] = {}
        self.fusions: dict[str, dict[str, Fusion]] = {}  # network -> rules that the test measures beside the tokens
        self.results: dict[str, dict[str, Results]] = {}
        self._confusions: dict[str, Confusions] = {}  # of the test at hand
        self.confusions: dict[str, ClassPairs] = {}  # token -> which classes the last test took for which
        self._images: int | None = None  # in the batch at hand; Lightning would guess it from any tensor's length

    def reweight(self, weights: Tensor | None) -> None:
        """Weigh the classes of the loss by weights [C], or not at all."""
        self.loss.reweight(weights)

    def answers(self, network: nn.Module, images: Tensor) -> TokenLogits:
        """images: [B, 3, H, W] -> `TokenLogits` of any network, also of one that returns [B, C]; to evaluate it.

        What is reported is computed in float32, so that whoever has the checkpoint finds the same numbers on any
        device; what is only watched while training, in training's precision, which is several times faster.
        """
        is_reported = self.trainer.state.fn != TrainerFn.FITTING
        with uncompiled(), torch.autocast(images.device.type, enabled=False) if is_reported else nullcontext():
            logits = network(images)
        return logits if isinstance(logits, TokenLogits) else TokenLogits(logits, None)

    def configure_optimizers(self) -> Optimizer:
        """The optimiser of the network's parameters; the schedule sets its rate at each batch."""
        return self.optimizer_factory(self.network)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Set the learning rate, a function of time alone, so that a resumed run needs no state."""
        self._images = len(batch.images)
        batches = int(self.trainer.num_training_batches)
        time = schedule_time(self.current_epoch, batch_idx, batches, self.trainer.accumulate_grad_batches)
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = self.schedule(time)

    def ends_update(self, batch_idx: int) -> bool:
        """Whether a micro-batch, counted within the epoch, is the last of its optimiser step."""
        done = batch_idx + 1
        return done % self.trainer.accumulate_grad_batches == 0 or done == self.trainer.num_training_batches

    def on_train_epoch_end(self) -> None:
        """Log the learning rate that the epoch ended with."""
        self.log("train/lr", self.trainer.optimizers[0].param_groups[0]["lr"], rank_zero_only=True)

    def log_training(self, **values: Tensor) -> None:
        """Log each value's mean over the epoch as train/NAME, without waiting for the device."""
        options: dict[str, Any] = {"on_step": False, "on_epoch": True, "sync_dist": True, "batch_size": self._images}
        for name, value in values.items():
            self.log(f"train/{name}", value.detach(), **options)

    def validation_step(self, batch: ImageBatch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Count the answers to one batch of a split that is watched while training."""
        self._count(self.watched[dataloader_idx], batch)

    def test_step(self, batch: ImageBatch, batch_idx: int) -> None:
        """Count the answers to one batch of the test set."""
        self._count("test", batch)

    def on_validation_epoch_end(self) -> None:
        """Log accuracies of the watched splits."""
        self._conclude()

    def on_test_epoch_end(self) -> None:
        """Log accuracies of the test set."""
        self._conclude()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Put the spec beside the weights: what is needed to use them without any configuration."""
        checkpoint["deitlt"] = self.spec

    def _everyones(self, tensor: Tensor) -> Tensor:
        """The tensor of each rank, [ranks, ...]."""
        return cast(Tensor, self.all_gather(tensor)).reshape(-1, *tensor.shape)

    def _count(self, split: str, batch: ImageBatch) -> None:
        for name, network in self.evaluated.items():
            if (split, name) not in self._accuracy:
                fusions = self.fusions.get(name) if split == "test" and not self.trainer.training else None
                classes = self.info.num_classes, self.info.groups
                fresh = TokenAccuracy(*classes, self.tokens, fusions, by_image=self.trainer.testing)
                self._accuracy[split, name] = fresh.to(self.device)
            answers = self.answers(network, batch.images)
            self._accuracy[split, name].update(answers, batch.targets)
            if split == "test" and name == RAW and self.trainer.testing:
                for token, logits in logits_by_token(answers).items():
                    if token not in self._confusions:
                        self._confusions[token] = Confusions(self.info.num_classes).to(self.device)
                    self._confusions[token].update(logits, batch.targets)

    @torch.no_grad()
    def _conclude(self) -> None:
        for (split, name), accuracy in self._accuracy.items():
            hits = accuracy.hits(self._everyones(accuracy.rights())) if self.trainer.testing else {}
            results = Results(accuracy.compute(), accuracy.per_class(), hits)
            self.results.setdefault(split, {})[name] = results
            prefix = split if name == RAW else f"{split}/{name}"
            for token, values in results.accuracy.items():
                path = f"{prefix}/{token}" if self.names_tokens else prefix
                # Each rank holds the same sums; sync_dist only tells Lightning so.
                self.log_dict({f"{path}/{key}": value for key, value in values.items()}, sync_dist=True)
        self._accuracy.clear()
        if self._confusions:
            self.confusions = {token: pairs.class_pairs() for token, pairs in self._confusions.items()}
        self._confusions.clear()
