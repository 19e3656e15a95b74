"""Which token wins on which class."""

from typing import Literal, TypedDict

import torch
from torch import Tensor

from deitlt.types import TokenLogits

Winner = Literal["cls", "dist", "tie"]
ClassWinner = TypedDict("ClassWinner", {"class": int, "cls": float, "dist": float, "winner": Winner})


class WinnersPlain(TypedDict, total=False):
    """Classes won by each token and by neither, and every class that was seen, in order."""

    cls: int
    dist: int
    tie: int
    classes: list[ClassWinner]


class TokenWinners:
    """Recall of the class token and of the distillation token on each class, and whose is the higher.

    Recall is the share of a class's images that a token decides right, in percent; equal numbers of
    right decisions are a tie. (DeiT-LT, Rangwani et al., 2024: CLS becomes the head's expert, DIST the tail's.)

    Args:
        num_classes: C.
    """

    def __init__(self, num_classes: int) -> None:
        zeros = torch.zeros(num_classes, dtype=torch.int64)
        self.cls, self.dist, self.seen = zeros, zeros, zeros

    def update(self, logits: TokenLogits, classes: Tensor) -> None:
        """Count a batch: logits [B, C] of each token; classes [B], the true ones."""
        assert logits.dist is not None, "one token has nobody to win against"
        if self.seen.device != classes.device:
            self.cls, self.dist, self.seen = (counts.to(classes.device) for counts in (self.cls, self.dist, self.seen))
        self.cls = self.cls.index_add(0, classes, (logits.cls.argmax(dim=1) == classes).long())
        self.dist = self.dist.index_add(0, classes, (logits.dist.argmax(dim=1) == classes).long())
        self.seen = self.seen.index_add(0, classes, torch.ones_like(classes))

    def as_plain(self) -> WinnersPlain:
        """Empty before the first image; a class of which no image was seen is absent."""
        counts = torch.stack([self.cls, self.dist, self.seen], dim=1).tolist()
        classes = [_winner(index, *row) for index, row in enumerate(counts) if row[2]]
        won = [row["winner"] for row in classes]
        if not classes:
            return {}
        return {"cls": won.count("cls"), "dist": won.count("dist"), "tie": won.count("tie"), "classes": classes}


def _winner(index: int, cls: int, dist: int, seen: int) -> ClassWinner:
    winner: Winner = "tie" if cls == dist else "cls" if cls > dist else "dist"
    return {"class": index, "cls": 100 * cls / seen, "dist": 100 * dist / seen, "winner": winner}
