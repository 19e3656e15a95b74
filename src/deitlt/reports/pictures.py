"""Pictures inside the page: as they are where they are small, else drawn smaller."""

import base64
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from PIL import Image

_SMALL: Final = 150_000  # bytes; a larger file is encoded again
_WIDEST: Final = 1400  # pixels
_QUALITY: Final = 82


@dataclass(frozen=True)
class Picture:
    """source: a data URI. width, height: in pixels, so that the page does not jump. alt: what it shows."""

    source: str
    width: int
    height: int
    caption: str
    alt: str


# Caption, and what it shows.
_STUDENT: Final = (
    "Training images, the student's view of each, and the view of that which the teacher labels",
    "A grid of training images from the most to the least frequent class: each beside the student's augmented or "
    "mixed view of it and the view of that which the teacher labels, under the classes that it was mixed of.",
)
_ALONE: Final = (
    "Training images, and the student's view of each",
    "A grid of training images from the most to the least frequent class: each beside the student's augmented or "
    "mixed view of it, under the classes that it was mixed of.",
)
_TEACHER: Final = (
    "Training images, and the teacher's view of each",
    "A grid of training images from the most to the least frequent class: each beside the teacher's view of it.",
)
_BASELINE: Final = (
    "Training images, and the plain ViT's view of each",
    "A grid of training images from the most to the least frequent class: each beside the plain ViT's view of it.",
)
# File in a run's folder -> its words. Of files with the same words, the first that is there is shown.
_VIEWS: Final = {
    **dict.fromkeys(("student/views.png", "views.png"), _STUDENT),
    **dict.fromkeys(("teacher/views.png", "teacher_views.png"), _TEACHER),
    "baseline/views.png": _BASELINE,
}
_ROLLOUT: Final = (
    "How much of each patch reaches {whose} tokens through all blocks, in multiples of the even share: red is more "
    "than by chance, blue is less, white is as much",
    "Rows of images, under the true class and what the tokens answer: each image, and beside it a map of its patches "
    "for each token of {whose}, coloured by the patch's share of the attention rollout over the even share. A colour "
    "bar marks 1, as much as by chance.",
)
_WHOSE: Final = {"student": "the student's", "baseline": "the plain ViT's"}


def pictures(folder: Path, taught: bool = True) -> list[Picture]:
    """The pictures of a run's folder that say what no chart of the page does; what is no picture is left out.

    Args:
        folder: the run's.
        taught: whether its student has a teacher.
    """
    return [picture for file, caption, alt in _files(folder, taught) if (picture := embed(file, caption, alt))]


def embed(file: Path, caption: str, alt: str) -> Picture | None:
    """The picture as a data URI; None where the file holds none."""
    try:
        with Image.open(file, formats=("PNG", "WEBP", "JPEG")) as image:
            image.load()
            data, kind, size = _encoded(file.read_bytes(), image)
    except (OSError, ValueError, Image.DecompressionBombError):
        return None
    return Picture(f"data:image/{kind};base64,{base64.b64encode(data).decode()}", *size, caption, alt)


def _files(folder: Path, taught: bool) -> Iterator[tuple[Path, str, str]]:
    views = {words: folder / name for name, words in reversed(_VIEWS.items()) if (folder / name).is_file()}
    for words in (_STUDENT, _TEACHER, _BASELINE):
        if words in views and not (words == _BASELINE and _STUDENT in views):
            yield views[words], *(_ALONE if words == _STUDENT and not taught else words)
    for stage, whose in _WHOSE.items():
        drawn = sorted(folder.glob(f"{stage}/analysis/*rollout*.png"))
        for file in drawn[-1:]:  # the last epoch's
            caption, alt = (words.format(whose=whose) for words in _ROLLOUT)
            yield file, caption, alt


def _encoded(data: bytes, image: Image.Image) -> tuple[bytes, str, tuple[int, int]]:
    if len(data) <= _SMALL:
        return data, str(image.format).lower(), image.size
    height = round(image.height * min(1.0, _WIDEST / image.width))
    smaller = image.convert("RGB").resize((min(image.width, _WIDEST), height), Image.Resampling.LANCZOS)
    draft = io.BytesIO()
    smaller.save(draft, format="WEBP", quality=_QUALITY)
    return draft.getvalue(), "webp", smaller.size
