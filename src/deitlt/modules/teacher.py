"""The teacher's training: one loss on one answer."""

from collections.abc import Callable

from torch import Tensor, nn

from deitlt.losses import ClassificationLoss
from deitlt.modules.base import ClassifierModule, OptimizerFactory
from deitlt.types import DataInfo, StudentBatch


class TeacherModule(ClassifierModule):
    """Trains a CNN with a loss for long tails (DeiT-LT, section 3.1).

    Args:
        network: images [B, 3, H, W] -> logits (or cosines) [B, C].
        loss: logits, targets -> the mean loss of a batch.
        info: what the training data are.
        optimizer: network -> optimiser of its parameters.
        schedule: time in epochs -> learning rate.
    """

    names_tokens = False

    def __init__(
        self,
        network: nn.Module,
        loss: ClassificationLoss,
        info: DataInfo,
        optimizer: OptimizerFactory,
        schedule: Callable[[float], float],
    ) -> None:
        super().__init__(network, info, optimizer, schedule, ("cls",))
        self.loss = loss

    def reweight(self, weights: Tensor | None) -> None:
        """Weigh the classes of the loss by weights [C], or not at all."""
        self.loss.reweight(weights)

    def training_step(self, batch: StudentBatch, batch_idx: int) -> Tensor:
        """The loss of one batch; a teacher's batch has nobody to teach it."""
        loss: Tensor = self.loss(self.network(batch.images), batch.targets)
        self.log_training(loss=loss)
        return loss
