"""What an earlier analysis found of the same network, kept beside what a narrower one measures now."""

import hashlib
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from deitlt.engine.stage_config import plain
from deitlt.reports.samples import KEPT, samples_of

Plain = dict[str, Any]
# Part of an analysis -> what a user types for it.
_ASKED = {
    "attention_distance": "attention",
    **{part: part for part in ("rank", "diversity", "winners", "calibration", "agreement", "sharpness")},
    "consistency": "agreement",
}


def fingerprint(checkpoint: Path, config: DictConfig) -> str:
    """Whose analysis it is: equal for the same weights, read the same way, on the same data.

    Args:
        checkpoint: the network's.
        config: analyze.yaml's.
    """
    with checkpoint.open("rb") as file:
        weights = hashlib.file_digest(file, "sha256").hexdigest()
    data = None if config.get("data") is None else plain(config.data)
    read = [weights, config.ema, config.label_order, data, config.data_root]
    return hashlib.sha256(json.dumps(read, sort_keys=True).encode()).hexdigest()[:16]


def read_earlier(file: Path) -> Plain:
    """The analysis that a file holds; empty where there is none that can be read, for it is written anew."""
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, TypeError, ValueError):
        return {}


def joined(earlier: Mapping[str, Any], analysis: Plain, asked: Collection[str]) -> Plain:
    """An analysis with the parts of an earlier one of the same network that it was not asked for.

    Args:
        earlier: in plain values; empty where there was none.
        analysis: in plain values.
        asked: the parts to measure, as a user types them; one that was lost is not taken from before.

    Returns:
        The analysis; under KEPT stands of each kept part on how many images of which split it was measured.
    """
    if not same_network(earlier, analysis):
        return analysis
    kept = {part: earlier[part] for part, word in _ASKED.items() if part in earlier and word not in asked}
    before = samples_of(earlier)
    samples = {part: before[part]._asdict() for part in kept if part in before}
    return {**analysis, **kept, **({KEPT: samples} if samples else {})}


def same_network(earlier: Mapping[str, Any], analysis: Mapping[str, Any]) -> bool:
    """Whether two analyses are of the same weights and data; one that does not say is of others."""
    return "of" in earlier and earlier["of"] == analysis["of"]


def kept_pictures(asked: Collection[str]) -> set[str]:
    """The names of the pictures of parts that were not asked for; each says in its title what it is of."""
    return {part for part, word in (*_ASKED.items(), ("rollout", "rollout")) if word not in asked}


def in_words(earlier: Mapping[str, Any], analysis: Mapping[str, Any], together: Mapping[str, Any]) -> str:
    """What became of an earlier analysis; '' where there was none, or all of it was measured again."""
    if earlier and not same_network(earlier, analysis):
        return "replaces the analysis before, which was of other weights or data, or does not say of which"
    samples = samples_of(together)
    kept = [part for part in _ASKED if part in together and part not in analysis]
    said = [f"{part} ({samples[part]})" if part in samples else part for part in kept]
    return f"kept from the analysis before, of the same weights and data: {', '.join(said)}" if kept else ""
