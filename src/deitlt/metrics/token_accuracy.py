"""Accuracy of each token of a student, of their mean, and of other rules that fuse them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import cast

from torch import Tensor, nn

from deitlt.metrics.fusion import Fusion
from deitlt.metrics.grouped_accuracy import GroupedAccuracy
from deitlt.types import TokenLogits


def logits_by_token(logits: TokenLogits) -> dict[str, Tensor]:
    """``cls``, and with a distillation token ``dist`` and ``avg``, the mean of the two; each [B, C]."""
    if logits.dist is None:
        return {"cls": logits.cls}
    return {"cls": logits.cls, "dist": logits.dist, "avg": (logits.cls + logits.dist) / 2}


class TokenAccuracy(nn.Module):
    """A `GroupedAccuracy` for each token that the student has.

    Args:
        num_classes: C.
        groups: group -> its class ids.
        tokens: of ``cls``, ``dist`` and ``avg`` those to measure; ``("cls",)`` for a student without a
            distillation token.
        fusions: further answers, made of both tokens: name -> rule.
    """

    def __init__(
        self,
        num_classes: int,
        groups: Mapping[str, Iterable[int]],
        tokens: Sequence[str],
        fusions: Mapping[str, Fusion] | None = None,
    ) -> None:
        super().__init__()
        classes = {name: list(members) for name, members in groups.items()}
        self.fusions = dict(fusions or {})
        names = [*tokens, *self.fusions]
        self.tokens = nn.ModuleDict({name: GroupedAccuracy(num_classes, classes) for name in names})

    def update(self, logits: TokenLogits, targets: Tensor) -> None:
        """Count a batch: logits [B, C] a token; targets [B] class ids or `IGNORED`."""
        answers = logits_by_token(logits) | {name: fuse(logits) for name, fuse in self.fusions.items()}
        for token, accuracy in self._accuracies().items():
            accuracy.update(answers[token], targets)

    def compute(self) -> dict[str, dict[str, float]]:
        """Token -> name -> percent, over all ranks; names as `GroupedAccuracy` gives them."""
        return {
            token: {name: float(value) for name, value in accuracy.compute().items()}
            for token, accuracy in self._accuracies().items()
        }

    def per_class(self) -> dict[str, list[float | None]]:
        """Token -> each class's recall in percent, over all ranks; None where no image was seen."""
        return {
            token: [None if recall != recall else recall for recall in accuracy.per_class().tolist()]
            for token, accuracy in self._accuracies().items()
        }

    def reset(self) -> None:
        """Forget all batches."""
        for accuracy in self._accuracies().values():
            accuracy.reset()

    def _accuracies(self) -> dict[str, GroupedAccuracy]:
        return cast(dict[str, GroupedAccuracy], dict(self.tokens.items()))
