"""The CNN teacher's training."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from deitlt.errors import ConfigError
from deitlt.losses import ClassificationLoss
from deitlt.models import PaCoNetwork
from deitlt.modules.base import ClassifierModule, OptimizerFactory
from deitlt.types import Batch, DataInfo


class TeacherModule(ClassifierModule):
    """Trains a CNN with a loss for long tails (DeiT-LT, section 3.1).

    Args:
        network: images [B, 3, H, W] -> logits (or cosines) [B, C].
        loss: logits, targets -> the mean loss of a batch.
        info: classes of the training data.
        optimizer: network -> optimiser of its parameters.
        schedule: time in epochs -> learning rate.

    Raises:
        ConfigError: a network or a loss that only PaCo's training can use.
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
        if isinstance(network, PaCoNetwork) or not isinstance(loss, ClassificationLoss):
            raise ConfigError("PaCo's encoders and loss need its own training, too; type teacher=cifar_paco, say.")
        super().__init__(network, loss, info, optimizer, schedule, ("cls",))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The loss of one batch, the mean over its images, local crops among them."""
        images = sum(len(part.images) for part in batch.parts)
        losses = [
            self.loss(self.network(part.images), part.targets) * (len(part.images) / images) for part in batch.parts
        ]
        loss = torch.stack(losses).sum()
        self.log_training(loss=loss)
        return loss
