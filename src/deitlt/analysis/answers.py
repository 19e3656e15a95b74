"""Whether a network's answers are numbers: without one, what was counted of its decisions means nothing."""

import math
from collections.abc import Collection, Mapping
from typing import Any

from torch import Tensor

from deitlt.types import TokenLogits


class FiniteAnswers:
    """Which tokens' logits were finite in every image, whatever the number of images."""

    def __init__(self) -> None:
        self._finite: dict[str, Tensor] = {}

    def update(self, logits: TokenLogits) -> None:
        """Look at a batch, without a wait for the device: logits [B, C] of each token."""
        for token, values in logits._asdict().items():
            if values is not None:
                whole = values.isfinite().all()
                self._finite[token] = self._finite.get(token, whole) & whole

    @property
    def broken(self) -> set[str]:
        """The tokens that gave an answer that is no number."""
        return {token for token, whole in self._finite.items() if not whole}


def without_decisions(analysis: Mapping[str, Any], broken: Collection[str]) -> dict[str, Any]:
    """An analysis with NaN where broken tokens' decisions were counted: the largest of NaNs would be class 0.

    Args:
        analysis: in plain values.
        broken: of 'cls' and 'dist'.
    """
    kept = dict(analysis)
    if broken and "winners" in kept:
        kept["winners"] = math.nan
    if broken and "diversity" in kept:
        kept["diversity"] = {**kept["diversity"], "disagreement": math.nan}
    if broken and "calibration" in kept:
        lost = {*broken, "avg"}
        kept["calibration"] = {t: math.nan if t in lost else errors for t, errors in kept["calibration"].items()}
    return kept
