"""Everything that one pass over images can tell of a student."""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from deitlt.analysis.attention_distance import AttentionDistance
from deitlt.analysis.diversity import ExpertDiversity
from deitlt.analysis.feature_rank import FeatureCovariance, ranks_as_plain
from deitlt.analysis.watching import (
    counted_batches,
    device_of,
    evaluating,
    patch_grid,
    patch_sides,
    token_rows,
    watched,
)
from deitlt.analysis.winners import TokenWinners
from deitlt.errors import ConfigError, nearest
from deitlt.models import StudentNetwork, in_class_order
from deitlt.types import DataInfo, TokenLogits

STUDENT_PARTS = ("attention", "rank", "diversity", "winners")


@dataclass(frozen=True)
class StudentFindings:
    """What a pass found, as plain lists and numbers; a part that was not measured is empty.

    images: how many were seen. attention_distance: as `AttentionDistance` gives it. rank: ``width``, and a
    token's ``components`` and ``effective``, a number a block (`Rank`). diversity: as `ExpertDiversity` gives it.
    winners: as `TokenWinners` gives them.
    """

    images: int
    attention_distance: dict[str, Any] = field(default_factory=dict)
    rank: dict[str, Any] = field(default_factory=dict)
    diversity: dict[str, Any] = field(default_factory=dict)
    winners: dict[str, Any] = field(default_factory=dict)

    def as_plain(self) -> dict[str, Any]:
        """The parts that were measured, by name, for JSON."""
        names = ("attention_distance", "rank", "diversity", "winners")
        return {name: part for name in names if (part := getattr(self, name))}


def analyse_student(
    network: StudentNetwork,
    batches: Iterable[tuple[Tensor, Tensor]],
    info: DataInfo,
    parts: Collection[str] = STUDENT_PARTS,
    class_order: Tensor | None = None,
    dtype: torch.dtype = torch.float32,
    on_logits: Callable[[TokenLogits, Tensor], None] | None = None,
) -> StudentFindings:
    """Run a student over images once, in evaluation mode, and measure the parts.

    What is kept does not grow with the images. A student without a distillation token has no diversity and no
    winners, and its parts have no ``dist``; nor has a network that pools its patches a ``cls`` among tokens.

    Args:
        network: where its weights are, there it runs; its modes are put back afterwards.
        batches: images [B, 3, H, W], normalised, of one size, on any device; labels [B], class ids, or `IGNORED`
            where an image counts nowhere.
        info: the classes and their groups.
        parts: of `STUDENT_PARTS` those to measure.
        class_order: [C], where each class of `info` stands among the network's answers; None: the same order.
        dtype: the precision of the network's products (autocast); what is measured is summed in float32 and 64.
        on_logits: called with each batch's logits, in the order of `info`, and labels: for what else one wants
            to know of the same answers, such as calibration.

    Raises:
        ConfigError: an unknown part, or attention of a kind that cannot be watched.
    """
    _check_parts(parts)
    seen, device = _StudentPass(network, info, parts), device_of(network)
    with (
        evaluating(network),
        watched(network, seen.on_attention, seen.on_tokens, seen.on_features),
        torch.autocast(device.type, dtype, enabled=dtype != torch.float32),
    ):
        for images, labels in counted_batches(batches, device):
            seen.begin(images)
            cls, dist = network(images)
            in_order = None if dist is None else in_class_order(dist.float(), class_order)
            logits = TokenLogits(in_class_order(cls.float(), class_order), in_order)
            seen.end(logits, labels)
            if on_logits is not None:
                on_logits(logits, labels)
    return seen.findings()


class _StudentPass:
    """Hands what a network shows to those who measure it."""

    def __init__(self, network: StudentNetwork, info: DataInfo, parts: Collection[str]) -> None:
        self.network, self.rows, self.images = network, token_rows(network), 0
        self.distance: AttentionDistance | None = None
        self.ranks: dict[str, list[FeatureCovariance]] = {name: [] for name in self.rows if "rank" in parts}
        both = "dist" in self.rows
        self.diversity = ExpertDiversity(info.num_classes, info.groups) if both and "diversity" in parts else None
        self.winners = TokenWinners(info.num_classes) if both and "winners" in parts else None
        self.features: Tensor | None = None
        self.on_attention = self._add_attention if "attention" in parts else None
        self.on_tokens = self._add_tokens if self.ranks or self.diversity else None
        self.on_features = self._keep_features if self.diversity else None

    def begin(self, images: Tensor) -> None:
        """Before a batch: the size of the images says where the patches are."""
        self.images += len(images)
        if self.distance is None:
            grid, prefix = patch_grid(self.network, images), self.network.vit.num_prefix_tokens
            self.distance = AttentionDistance(grid, patch_sides(self.network), self.rows, prefix)

    def end(self, logits: TokenLogits, classes: Tensor) -> None:
        """After a batch."""
        if self.diversity is not None:
            assert self.features is not None, "the features were not seen"
            self.diversity.update(self.features, logits, classes)
        if self.winners is not None:
            self.winners.update(logits, classes)

    def findings(self) -> StudentFindings:
        """What was measured."""
        return StudentFindings(
            self.images,
            {} if self.distance is None else self.distance.as_plain(),
            ranks_as_plain(self.ranks),
            {} if self.diversity is None else self.diversity.as_plain(),
            {} if self.winners is None else dict(self.winners.as_plain()),
        )

    def _add_attention(self, block: int, queries: Tensor, keys: Tensor) -> None:
        assert self.distance is not None, "no batch was begun"
        self.distance.update(block, queries, keys)

    def _add_tokens(self, block: int, tokens: Tensor) -> None:
        for name, covariances in self.ranks.items():
            if block == len(covariances):
                covariances.append(FeatureCovariance())
            covariances[block].update(tokens[:, self.rows[name]])
        if self.diversity is not None:
            self.diversity.update_block(block, tokens[:, :2])

    def _keep_features(self, features: Tensor) -> None:
        self.features = features[:, :2]


def _check_parts(parts: Collection[str]) -> None:
    for part in parts:
        if part not in STUDENT_PARTS:
            raise ConfigError(f"parts=[{part}] names nothing to measure; {nearest(part, STUDENT_PARTS)}")
