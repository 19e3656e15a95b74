"""Of which images the numbers of an analysis tell, and where numbers stand beside each other that tell of others."""

from collections.abc import Collection, Mapping
from typing import Any, Final, NamedTuple

_SPLITS: Final = {"train": "training ", "val": "validation ", "test": "test "}
# What an analysis finds in the images that it names; the teacher is asked about others, sharpness counts its own.
_OF_IMAGES: Final = ("attention_distance", "rank", "diversity", "winners", "calibration")
_SHARPNESS: Final = "sharpness"
KEPT: Final = "samples"  # of an analysis: its parts that an earlier one measured -> the images of that


class Sample(NamedTuple):
    """split: 'train', 'val' or 'test'. images: how many of it. None is what nobody wrote down."""

    split: str | None
    images: int | None

    def __str__(self) -> str:
        """'500 test images'."""
        images = f"{self.images:,} " if self.images else ""
        noun = "image" if self.images == 1 else "images"
        return f"{images}{_SPLITS.get(str(self.split), '')}{noun}" if images or self.split in _SPLITS else "its images"


def samples_of(analysis: Mapping[str, Any]) -> dict[str, Sample]:
    """Part of an analysis -> its images; what was measured on none of those that it names is absent."""
    kept = {part: Sample(**sample) for part, sample in analysis.get(KEPT, {}).items()}
    own = Sample(analysis.get("split"), analysis.get("images"))
    found = {part: kept.get(part, own) for part in _OF_IMAGES if part in analysis}
    if whole := (analysis.get(_SHARPNESS) or {}).get("all"):
        found[_SHARPNESS] = Sample("train", whole.get("images"))
    return found


def on_images(samples: Collection[Sample | None]) -> str:
    """' on 200 training images', where that is what all of them are; else, and where nobody knows, ''."""
    known = set(samples)
    (sample,) = known if len(known) == 1 else (None,)
    return f" on {sample}" if sample is not None and sample.images else ""


def epochs_in_words(epochs: float) -> str:
    """'1 epoch', '150 epochs'."""
    return f"{epochs:g} epoch{'' if epochs == 1 else 's'}"


def unlike(samples: Mapping[str, Collection[Sample]]) -> str:
    """A sentence on what stands beside each other and was measured on different images; '' where it was on the same.

    Args:
        samples: what is compared -> the images of its parts.
    """
    named: dict[Sample, list[str]] = {}
    for name, found in samples.items():
        for sample in dict.fromkeys(found):
            named.setdefault(sample, []).append(name)
    if len(named) < 2:
        return ""
    *few, (most, rest) = sorted(named.items(), key=lambda item: len(item[1]))
    said = [f"{', '.join(names)} on {sample}" for sample, names in few]
    said.append(f"{'the others' if len(rest) > 1 else rest[0]} on {most}")
    return f"Not measured on the same images: {'; '.join(said)}."
