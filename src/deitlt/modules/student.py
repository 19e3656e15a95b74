"""The student's training: CLS from the truth, DIST from the teacher."""

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor

from deitlt.losses import DistillationLoss, DistillationTerms
from deitlt.models import StudentNetwork
from deitlt.modules.base import ClassifierModule, OptimizerFactory
from deitlt.transforms import attention_targets
from deitlt.types import DataInfo, StudentBatch


class StudentModule(ClassifierModule):
    """Trains a vision transformer with `DistillationLoss` (DeiT-LT, equation 3).

    Its batches are complete, so it holds no teacher; without one it trains a plain ViT or a DeiT whose
    two tokens both learn the truth.

    Args:
        network: images [B, 3, H, W] -> `TokenLogits`.
        loss: token logits, targets, the teacher's answers -> the loss and its parts.
        info: what the training data are.
        optimizer: network -> optimiser of its parameters.
        schedule: time in epochs -> learning rate.
    """

    def __init__(
        self,
        network: StudentNetwork,
        loss: DistillationLoss,
        info: DataInfo,
        optimizer: OptimizerFactory,
        schedule: Callable[[float], float],
    ) -> None:
        tokens = ("cls", "dist", "avg") if "dist" in network.tokens else ("cls",)
        super().__init__(network, info, optimizer, schedule, tokens)
        self.loss = loss

    def reweight(self, weights: Tensor | None) -> None:
        """Weigh the classes of the deferred part of the loss by weights [C], or not at all."""
        self.loss.reweight(weights)

    def training_step(self, batch: StudentBatch, batch_idx: int) -> Tensor:
        """The loss of one complete batch: the mean over its images, local crops among them."""
        images = sum(len(part.images) for part in batch.parts)
        shares = [len(part.images) / images for part in batch.parts]
        parts = [self._terms(part) for part in batch.parts]
        loss, cls, dist = (
            torch.stack([share * value for share, value in zip(shares, values, strict=True)]).sum()
            for values in zip(*parts, strict=True)
        )
        self.log_training(loss=loss, loss_cls=cls, loss_dist=dist)
        return loss

    def _terms(self, batch: StudentBatch) -> DistillationTerms:
        """The loss of images of one size."""
        targets = batch.targets
        if batch.pasted is None:
            answers = self.network(batch.images)
        else:
            answers, attention = cast(StudentNetwork, self.network).forward_with_attention(batch.images)
            targets = attention_targets(attention, batch.pasted)
        terms: DistillationTerms = self.loss(answers, targets, batch.teacher)
        return terms
