"""The student's training: the class token learns the targets, the distillation token the frozen teacher."""

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn

from deitlt.losses import DistillationLoss, DistillationTerms
from deitlt.models import StudentNetwork, in_class_order
from deitlt.modules.base import ClassifierModule, OptimizerFactory
from deitlt.transforms import attention_targets
from deitlt.types import Batch, DataInfo

Taught = list[Tensor | None]  # the teacher's targets for each part of a batch


class FrozenTeacher:
    """A network that labels images, in its own precision and without a gradient.

    No `nn.Module`: a student that holds it neither trains, averages, moves nor saves it.

    Args:
        network: images [B, 3, h, w] -> logits, or cosines, [B, C].
        input: the student's images [B, 3, H, W] -> the network's: size and normalisation. The data module applies it.
        scale: makes logits of cosines.
        dtype: of the network's matrix products (autocast), whatever the student trains in; weights, BatchNorm and
            logits stay in float32.
        class_order: [C], the position of each class of the data in the network's output; None for the same order.
    """

    def __init__(
        self,
        network: nn.Module,
        input: Callable[[Tensor], Tensor],
        scale: float = 1.0,
        dtype: torch.dtype = torch.float32,
        class_order: Tensor | None = None,
    ) -> None:
        self.network = network.eval().requires_grad_(False)
        self.input = input
        self.scale = scale
        self.dtype = dtype
        self.class_order = class_order
        self._device: torch.device | None = None

    def logits(self, images: Tensor) -> Tensor:
        """images: [B, 3, h, w] -> logits [B, C], in float32."""
        return self.scale * self.output(images).float()

    def hard_labels(self, images: Tensor) -> Tensor:
        """images: [B, 3, h, w] -> predicted classes [B]."""
        return self.output(images).argmax(dim=1)

    @torch.no_grad()
    def output(self, images: Tensor) -> Tensor:
        """images: [B, 3, h, w] -> the network's own output [B, C], not scaled, in the order of the data's classes.

        It is a copy: a CUDA graph's own output lies where its next one will.
        """
        self._follow(images.device)
        with torch.autocast(images.device.type, self.dtype, enabled=self.dtype != torch.float32):
            return in_class_order(self.network(images.float()), self.class_order).clone()

    def _follow(self, device: torch.device) -> None:
        """Move to the images' device, once: even a move to where a network is walks through all its weights."""
        if device == self._device:
            return
        self.network.to(device)
        self.class_order = None if self.class_order is None else self.class_order.to(device)
        self._device = device


class StudentModule(ClassifierModule):
    """Trains a vision transformer with `DistillationLoss` (DeiT-LT, equation 3).

    The teacher is asked once a batch, before its first pass, and its targets are kept for the update: SAM's second
    pass learns the same. Without a teacher it trains a plain ViT, or a DeiT whose two tokens both learn the targets.
    Another distillation is a subclass of the loss, or of this class with its own `teacher_targets`.

    Args:
        network: images [B, 3, H, W] -> `TokenLogits`.
        loss: token logits, targets, the teacher's targets -> the loss and its parts.
        info: classes of the training data.
        optimizer: network -> optimiser of its parameters.
        schedule: time in epochs -> learning rate.
        teacher: asked about `Batch.teacher_images`; None without distillation.
    """

    loss: DistillationLoss

    def __init__(
        self,
        network: StudentNetwork,
        loss: DistillationLoss,
        info: DataInfo,
        optimizer: OptimizerFactory,
        schedule: Callable[[float], float],
        teacher: FrozenTeacher | None = None,
    ) -> None:
        tokens = ("cls", "dist", "avg") if "dist" in network.tokens else ("cls",)
        super().__init__(network, loss, info, optimizer, schedule, tokens)
        self.teacher = teacher
        self._taught: dict[int, Taught] = {}  # of the update's micro-batches, by their index in the epoch

    def teacher_targets(self, images: Tensor) -> Tensor:
        """teacher_images [N, 3, h, w] -> what the loss learns from: hard labels [N], or logits [N, C]."""
        assert self.teacher is not None
        return self.teacher.hard_labels(images) if self.loss.hard else self.teacher.logits(images)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Set the learning rate and ask the teacher."""
        super().on_train_batch_start(batch, batch_idx)
        self._taught[batch_idx] = self.ask_teacher(batch)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The loss of one batch: the mean over its images, local crops among them."""
        taught = self._taught[batch_idx] if batch_idx in self._taught else self.ask_teacher(batch)
        images = sum(len(part.images) for part in batch.parts)
        shares = [len(part.images) / images for part in batch.parts]
        parts = [self._terms(part, teacher) for part, teacher in zip(batch.parts, taught, strict=True)]
        loss, cls, dist = (
            torch.stack([share * value for share, value in zip(shares, values, strict=True)]).sum()
            for values in zip(*parts, strict=True)
        )
        self.log_training(loss=loss, loss_cls=cls, loss_dist=dist)
        return loss

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        """Forget the teacher's targets of a finished update."""
        if self.ends_update(batch_idx):
            self._taught.clear()

    def ask_teacher(self, batch: Batch) -> Taught:
        """The teacher's targets for each part; local crops that it was not shown take those of the first crop."""
        if self.teacher is None:
            return [None] * len(batch.parts)
        assert batch.teacher_images is not None, "the data module has no teacher_input"
        taught: Taught = [(shown := self.teacher_targets(batch.teacher_images))]
        for local in batch.parts[1:]:
            if local.teacher_images is None:
                first = shown[: len(batch.images) // batch.crops]
                taught.append(first.repeat(local.crops, *[1] * (first.ndim - 1)))
            else:
                taught.append(self.teacher_targets(local.teacher_images))
        return taught

    def _terms(self, batch: Batch, teacher: Tensor | None) -> DistillationTerms:
        """The loss of images of one size."""
        targets = batch.targets
        if batch.pasted is None:
            logits = self.network(batch.images)
        else:
            logits, attention = cast(StudentNetwork, self.network).forward_with_attention(batch.images)
            targets = attention_targets(attention, batch.pasted)
        terms: DistillationTerms = self.loss(logits, targets, teacher)
        return terms
