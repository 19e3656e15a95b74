"""The student's training: CLS from the truth, DIST from the teacher."""

from collections.abc import Callable

from torch import Tensor

from deitlt.losses import DistillationLoss
from deitlt.models import StudentNetwork
from deitlt.modules.base import ClassifierModule, OptimizerFactory
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
        """The loss of one complete batch."""
        terms = self.loss(self.network(batch.images), batch.targets, batch.teacher)
        self.log_training(loss=terms.loss, loss_cls=terms.cls, loss_dist=terms.dist)
        loss: Tensor = terms.loss
        return loss
