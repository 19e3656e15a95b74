"""The rank of a teacher's features, and the features themselves."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from deitlt.analysis.feature_rank import FeatureCovariance, Rank
from deitlt.analysis.watching import counted_batches, device_of, evaluating
from deitlt.models import CifarResNet, PaCoNetwork


@dataclass(frozen=True)
class TeacherFindings:
    """images: how many were seen. width: D of the features. rank: theirs; None before the first image."""

    images: int
    width: int
    rank: Rank | None

    def as_plain(self) -> dict[str, Any]:
        """The parts that were measured, by name, for JSON."""
        if self.rank is None:
            return {}
        return {"rank": {"width": self.width, "features": self.rank._asdict()}}


def analyse_teacher(
    network: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    dtype: torch.dtype = torch.float32,
    on_logits: Callable[[Tensor, Tensor], None] | None = None,
) -> TeacherFindings:
    """Run a teacher over images once, in evaluation mode, and measure the rank of its features.

    Args:
        network: images [B, 3, H, W] -> logits [B, C]; where its weights are, there it runs.
        batches: images [B, 3, H, W], normalised for it, on any device; labels [B], or `IGNORED` where an image
            counts nowhere.
        dtype: the precision of the network's products (autocast).
        on_logits: called with each batch's answers, as the network gives them, and labels.
    """
    seen, features, device = FeatureCovariance(), teacher_features(network), device_of(network)
    with evaluating(network), torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
        for images, labels in counted_batches(batches, device):
            rows, logits = features(images)
            seen.update(rows)
            if on_logits is not None:
                on_logits(logits.float(), labels)
    return TeacherFindings(seen.count, seen.width, seen.rank())


def teacher_features(network: nn.Module) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """Images [B, 3, H, W] -> what goes into the teacher's classifier, [B, D], and its logits [B, C].

    Args:
        network: what `create_teacher` or `create_paco_teacher` makes.
    """
    head = _classifier(network)

    def answer(images: Tensor) -> tuple[Tensor, Tensor]:
        seen: list[Tensor] = []
        hook = head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        try:
            logits: Tensor = network(images)
        finally:
            hook.remove()
        features = seen[0]
        return features if features.ndim == 2 else features.flatten(2).mean(dim=2), logits

    return answer


def _classifier(network: nn.Module) -> nn.Module:
    if isinstance(network, CifarResNet | PaCoNetwork):
        return network.linear
    head = cast(Any, network).get_classifier()
    return cast(nn.Module, head[0] if isinstance(head, tuple) else head)  # a distilled transformer has two
