"""A teacher's answers to images that are the same in every run, stored epoch by epoch."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from deitlt.checkpoints.writing import write_atomically
from deitlt.errors import CheckpointError, ConfigError

KEY = "student.teacher_view.store"
SCHEDULE = "schedule.json"
Place = tuple[int, int]  # a batch of the rank's epoch, and a part of that batch


@dataclass(frozen=True)
class EpochName:
    """Whose answers a file holds: those of one rank in one epoch, in which images are mixed or not."""

    epoch: int
    rank: int
    mixed: bool

    @property
    def file(self) -> str:
        """The file's name."""
        return f"epoch-{self.epoch:05}-{'mixed' if self.mixed else 'unmixed'}-rank-{self.rank}.safetensors"


@dataclass(frozen=True)
class EpochAnswers:
    """The answers of one epoch in one tensor: decisions [N], or logits [N, C].

    spans: place -> the rows [from, to) of it.
    """

    answers: Tensor
    spans: dict[Place, tuple[int, int]]

    @staticmethod
    def of_parts(parts: Mapping[Place, Tensor]) -> "EpochAnswers":
        """One after the other, what was answered at each place."""
        spans, end = {}, 0
        for place, answers in parts.items():
            spans[place] = end, end + len(answers)
            end += len(answers)
        return EpochAnswers(torch.cat(list(parts.values())), spans)

    def parts(self) -> dict[Place, Tensor]:
        """The answers at each place, without a copy."""
        return {place: self.answers[start:end] for place, (start, end) in self.spans.items()}

    def to(self, device: torch.device, dtype: torch.dtype) -> "EpochAnswers":
        """The same on a device, as another kind of number."""
        return EpochAnswers(self.answers.to(device, dtype), self.spans)

    def at(self, place: Place) -> Tensor | None:
        """The answers at a place, without a copy; None where there are none."""
        span = self.spans.get(place)
        return None if span is None else self.answers[span[0] : span[1]]


class AnswerStore:
    """A folder of answers to the images of one schedule; one file an epoch and rank.

    Files are written whole or not at all, and whoever writes one writes the same: so the jobs of a sweep may
    share a folder, also at once.

    Args:
        folder: of all schedules; this one gets a folder in it, named after its text.
        schedule: all that the images and the answers depend on, as text that is always written the same way.
        num_classes: classes C.
        decisions: whether the answers are classes [N], or logits [N, C].
    """

    def __init__(self, folder: Path, schedule: str, num_classes: int, decisions: bool) -> None:
        self.schedule = schedule
        self.folder = folder / hashlib.sha256(schedule.encode()).hexdigest()[:16]
        self.num_classes = num_classes
        self.dtype = _smallest(num_classes) if decisions else torch.float32

    def open(self) -> None:
        """Write the schedule beside the answers, or compare it with the one that is there.

        Raises:
            CheckpointError: the folder holds the answers to another schedule.
            ConfigError: nothing can be written there.
        """
        file = self.folder / SCHEDULE
        try:
            if not file.exists():
                write_atomically(file, lambda opened: opened.write(self.schedule.encode()))
            found = file.read_bytes()
        except OSError as error:
            raise ConfigError(
                f"{KEY}={self.folder.parent} cannot be used ({error.strerror}); type {KEY}=FOLDER where you may "
                f"write, or {KEY}=null."
            ) from error
        if found != self.schedule.encode():
            raise CheckpointError(
                f"{self.folder} holds the teacher's answers to other images, as its {SCHEDULE} says; delete that "
                f"folder, or type {KEY}=FOLDER with another one."
            )

    def write(self, name: EpochName, epoch: EpochAnswers) -> None:
        """Store an epoch's answers."""
        places = torch.tensor([[*place, *span] for place, span in epoch.spans.items()], dtype=torch.int64)
        tensors = {"answers": epoch.answers.to("cpu", self.dtype), "places": places}
        content = save(tensors, {"digest": self._digest(tensors, name)})
        write_atomically(self.folder / name.file, lambda file: file.write(content))

    def read(self, name: EpochName) -> EpochAnswers | None:
        """The stored answers of an epoch, on the CPU; None where there are none.

        Raises:
            CheckpointError: the file is damaged, or is another epoch's.
        """
        path = self.folder / name.file
        if not path.exists():
            return None
        try:
            with safe_open(path, "pt") as content:
                digest = (content.metadata() or {}).get("digest")
                tensors = {key: content.get_tensor(key) for key in ("answers", "places")}
        except (OSError, SafetensorError) as error:
            raise CheckpointError(_damaged(path)) from error
        if digest != self._digest(tensors, name):
            raise CheckpointError(_damaged(path))
        spans = {(step, part): (start, end) for step, part, start, end in tensors["places"].tolist()}
        return EpochAnswers(tensors["answers"], spans)

    def _digest(self, tensors: Mapping[str, Tensor], name: EpochName) -> str:
        """Of the file's content, its place and its schedule: a file that was moved is as bad as a damaged one."""
        digest = hashlib.blake2b(f"{name.file} {self.schedule}".encode(), digest_size=16)
        for key in sorted(tensors):
            digest.update(tensors[key].numpy().data)
        return digest.hexdigest()


def _smallest(num_classes: int) -> torch.dtype:
    """The smallest kind of integer that holds every class."""
    kinds = (torch.uint8, torch.int16, torch.int32)  # torch knows uint16 half-heartedly
    return next(kind for kind in kinds if num_classes <= torch.iinfo(kind).max + 1)


def _damaged(path: Path) -> str:
    return f"{path} is damaged, or was moved there; delete it, and its teacher is asked again."
