"""Which classes are taken for which: counted pair by pair, so that thousands of classes fit."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from deitlt.metrics.token_accuracy import logits_by_token
from deitlt.types import IGNORED, TokenLogits


class ClassPairs(NamedTuple):
    """The entries of a confusion matrix that are not 0, on the CPU.

    truth, answer: [P] class ids. images: [P], of the one class taken for the other.
    """

    truth: Tensor
    answer: Tensor
    images: Tensor

    def matrix(self, num_classes: int) -> Tensor:
        """The matrix itself, [C, C] images: a row a true class, a column an answer. Ask for it of few classes only."""
        dense = torch.zeros(num_classes, num_classes, dtype=torch.int64)
        dense[self.truth, self.answer] = self.images
        return dense


class Confusions(Metric):
    """Counts pairs of true class and answer, over all ranks.

    A matrix of 8,142 classes takes 530 MB; its entries that are not 0 are at most as many as images, and each image
    takes 8 bytes until it is counted.

    Args:
        num_classes: C.
    """

    full_state_update = False
    is_differentiable = False
    pairs: list[Tensor]

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.add_state("pairs", [], dist_reduce_fx="cat")

    def update(self, logits: Tensor, targets: Tensor) -> None:
        """Count a batch, without a wait for the device.

        Args:
            logits: [B, C].
            targets: [B] class ids; rows of `IGNORED` count nowhere.
        """
        pairs = targets * self.num_classes + logits.argmax(dim=1)
        self.pairs.append(pairs.where(targets != IGNORED, IGNORED))

    def compute(self) -> ClassPairs:
        """As `class_pairs`, but torchmetrics makes numbers of what has one entry."""
        return self._counted()

    def class_pairs(self) -> ClassPairs:
        """The pairs that were seen, over all ranks, sorted by class."""
        with self.sync_context():
            return self._counted()

    def _counted(self) -> ClassPairs:
        pairs = dim_zero_cat(self.pairs).cpu().long() if len(self.pairs) else torch.zeros(0, dtype=torch.int64)
        found, images = torch.unique(pairs[pairs != IGNORED], return_counts=True)
        return ClassPairs(found // self.num_classes, found % self.num_classes, images)


class TokenConfusions:
    """A `Confusions` for each token that is measured.

    Args:
        num_classes: C.
        tokens: of ``cls``, ``dist`` and ``avg`` those to count.
        device: where the answers are.
    """

    def __init__(self, num_classes: int, tokens: Sequence[str], device: torch.device) -> None:
        self.by_token = {token: Confusions(num_classes).to(device) for token in tokens}

    def update(self, logits: TokenLogits, targets: Tensor) -> None:
        """Count a batch: logits [B, C] a token; targets [B] class ids or `IGNORED`."""
        answers = logits_by_token(logits)
        for token, confusions in self.by_token.items():
            confusions.update(answers[token], targets)

    def compute(self) -> dict[str, ClassPairs]:
        """Token -> its pairs, over all ranks."""
        return {token: confusions.class_pairs() for token, confusions in self.by_token.items()}
