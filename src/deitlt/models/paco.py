"""PaCo's teacher: two encoders, of which one follows the other, class centres, and a queue of keys."""

from copy import deepcopy
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deitlt.errors import ConfigError
from deitlt.losses.classification import at_least_float32
from deitlt.models.factory import answer_in_float32, create_teacher

EMPTY = -1  # the label of a row of the queue that no key has filled yet


class ProjectingEncoder(nn.Module):
    """A CNN without its classifier, and the projection that its contrast is measured in.

    Args:
        name: one of `list_teachers()`.
        dim: length D of a projection.
    """

    def __init__(self, name: str, dim: int) -> None:
        super().__init__()
        self.backbone = create_teacher(0, name)
        backbone = cast(Any, self.backbone)
        # timm's name for what goes into a classifier; some models widen it after pooling.
        self.num_features = int(getattr(backbone, "head_hidden_size", backbone.num_features))
        hidden = self.num_features
        self.fc = nn.Sequential(
            nn.Linear(hidden, hidden), nn.BatchNorm1d(hidden), nn.ReLU(inplace=True), nn.Linear(hidden, dim)
        )

    def project(self, features: Tensor) -> Tensor:
        """features: [B, F] -> unit projections [B, D], in at least float32."""
        return F.normalize(at_least_float32(self.fc(features)), dim=1)

    def forward(self, images: Tensor) -> Tensor:
        """images: [B, 3, H, W] -> unit projections [B, D]."""
        return self.project(self.backbone(images))


class PaCoNetwork(nn.Module):
    """Query and key encoder, learnable class centres, and the queue of unit keys.

    Cui et al., "Parametric Contrastive Learning", ICCV 2021; the pair of encoders and the queue are He et
    al.'s, "Momentum Contrast", CVPR 2020. The queue begins empty: the label of an unfilled row is `EMPTY`, and
    the loss leaves it out, where the published code begins with random rows of random labels. The published
    code also moves a copy of the centres, which nothing reads; here is none.

    Args:
        encoder: the query encoder; the key encoder begins as its copy and gets no gradient.
        num_classes: classes C.
        queue_size: rows K of the queue, at least the images of one update.
        dim: length D of a projection.
        momentum: share of the key encoder that one move keeps.
    """

    queue: Tensor
    queue_labels: Tensor
    queue_pointer: Tensor

    def __init__(
        self, encoder: ProjectingEncoder, num_classes: int, queue_size: int, dim: int, momentum: float
    ) -> None:
        super().__init__()
        self.encoder_q = encoder
        self.encoder_k = deepcopy(encoder).requires_grad_(False)
        self.linear = nn.Linear(encoder.num_features, num_classes)
        self.momentum = momentum
        self.register_buffer("queue", torch.zeros(queue_size, dim))
        self.register_buffer("queue_labels", torch.full((queue_size,), EMPTY))
        self.register_buffer("queue_pointer", torch.zeros((), dtype=torch.int64))

    def forward(self, images: Tensor) -> Tensor:
        """images: [B, 3, H, W] -> logits from the class centres, [B, C]: all that inference needs."""
        logits: Tensor = self.linear(self.encoder_q.backbone(images))
        return logits

    def get_classifier(self) -> nn.Module:
        """The class centres, as timm calls a head."""
        return self.linear

    def entrances(self) -> list[nn.Module]:
        """The two CNNs: what is compiled and laid out, since training calls them and not `forward`."""
        return [self.encoder_q.backbone, self.encoder_k.backbone]

    def queries(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """images: [B, 3, H, W] -> unit projections [B, D] and logits from the class centres [B, C]."""
        features = self.encoder_q.backbone(images)
        return self.encoder_q.project(features), self.linear(features)

    @torch.no_grad()
    def keys(self, images: Tensor) -> Tensor:
        """images: [B, 3, H, W] -> the key encoder's unit projections [B, D], without a gradient."""
        keys: Tensor = self.encoder_k(images)
        return keys

    @torch.no_grad()
    def move_key_encoder(self) -> None:
        """Move the key encoder's weights a little towards the query encoder's; its BatchNorm counts for itself."""
        for key, query in zip(self.encoder_k.parameters(), self.encoder_q.parameters(), strict=True):
            key.lerp_(query, 1 - self.momentum)

    @torch.no_grad()
    def enqueue(self, keys: Tensor, labels: Tensor) -> None:
        """Put keys in place of the oldest rows, around the queue's end where they reach it.

        Args:
            keys: [N, D], unit rows, those of all ranks, so that the queue is equal on each.
            labels: [N], their classes.

        Raises:
            ConfigError: more keys than the queue has rows.
        """
        check_queue_size(len(self.queue), len(keys))
        rows = (self.queue_pointer + torch.arange(len(keys), device=keys.device)) % len(self.queue)
        self.queue[rows] = keys.to(self.queue)
        self.queue_labels[rows] = labels
        self.queue_pointer.add_(len(keys)).remainder_(len(self.queue))


def check_queue_size(queue_size: int, keys: int) -> None:
    """Raise ConfigError where the keys of one update do not fit into the queue."""
    if queue_size < keys:
        raise ConfigError(
            f"teacher.model.queue_size={queue_size} is smaller than the {keys} keys of one update; "
            f"type teacher.model.queue_size={8 * keys}, or teacher.images_per_update={queue_size} or less."
        )


def create_paco_teacher(
    num_classes: int, name: str = "cifar_resnet32", dim: int = 32, queue_size: int = 1024, momentum: float = 0.999
) -> PaCoNetwork:
    """A PaCo teacher with fresh weights: images [B, 3, H, W] -> logits [B, C], and what its training needs.

    Args:
        num_classes: classes C.
        name: the encoders, one of `list_teachers()`.
        dim: length D of a projection.
        queue_size: rows K of the queue.
        momentum: share of the key encoder that one move keeps, in [0, 1].

    Raises:
        ConfigError: if no model has that name.
    """
    return answer_in_float32(PaCoNetwork(ProjectingEncoder(name, dim), num_classes, queue_size, dim, momentum))
