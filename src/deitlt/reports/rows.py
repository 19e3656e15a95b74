"""The accuracies in a metrics.json, one row a model and token, under the names that all tables use."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

PARTS: Final = {
    "teacher": "teacher",
    "teacher_ema": "teacher (EMA)",
    "student": "student",
    "student_ema": "student (EMA)",
    "baseline": "plain ViT",
    "baseline_ema": "plain ViT (EMA)",
}
TOKENS: Final = {
    "cls": "CLS",
    "dist": "DIST",
    "avg": "AVG",
    "mean_prob": "mean of probabilities",
    "matched": "AVG, temperatures matched",
    "fused": "fused, one weight",
    "group_fused": "fused, one weight a group",
    "least_regret": "fused, least regret",
}
PROTOCOLS: Final = {
    "last": "last epoch",
    "val": "best epoch on the validation split",
    "paper": "best epoch on the TEST set, as the paper's code chose it: optimistic",
}


@dataclass(frozen=True)
class AccuracyRow:
    """One model's, or one of its tokens' or their fusions', accuracies.

    part: a key of metrics.json, such as 'student'. token: of `TOKENS`, or '' for a model with one answer.
    accuracy: 'all', 'balanced', 'head', 'mid', 'tail', 'top5' -> percent; what was not measured is absent.
    """

    part: str
    token: str
    label: str
    accuracy: Mapping[str, float]


def accuracy_rows(metrics: Mapping[str, Any]) -> list[AccuracyRow]:
    """The rows of one run, teacher first; parts that were not trained have none.

    Args:
        metrics: what metrics.json holds. A part is a dict of accuracies, or of tokens that hold one each.
    """
    rows = []
    for part, label in PARTS.items():
        content = metrics.get(part) or {}
        tokens = {"": content} if "all" in content else {t: content[t] for t in TOKENS if t in content}
        for token, accuracy in tokens.items():
            # A plain ViT has one token: its name would only suggest that there is another.
            named = token and not (part.startswith("baseline") and len(tokens) == 1)
            known = {name: float(value) for name, value in accuracy.items() if value is not None}
            rows.append(AccuracyRow(part, token, f"{label} {TOKENS[token]}" if named else label, known))
    return rows


def protocol_in_words(protocol: str | None) -> str:
    """Which epoch the numbers are of, in words."""
    return PROTOCOLS.get(protocol or "", f"protocol {protocol}" if protocol else "of the checkpoint that was named")
