"""A teacher that remembers what it said: stored answers where there are some, the network where there are none."""

import lightning as L
import torch
from torch import Tensor

from deitlt.checkpoints.answers import KEY, AnswerStore, EpochAnswers, EpochName, Place
from deitlt.errors import CheckpointError
from deitlt.models import LiveTeacher

TIE = 0.05  # of the spread of an image's logits: so far below the best one another may lie and count as its equal


class StoredTeacher(L.Callback):
    """Answers from a store, and asks the live teacher where that is empty; it is the labeller and its callback.

    The images of a schedule are functions of (seed, rank, epoch, index or step), so what the teacher said of
    them once, it would say again. Answers to an epoch are collected on the device and written at its end; those
    that are read come to the device once an epoch. An epoch that is stored in part (a run was resumed within
    it, or had more batches) is completed.

    Args:
        live: the network.
        store: where its answers are kept.
    """

    def __init__(self, live: LiveTeacher, store: AnswerStore) -> None:
        self.live = live
        self.store = store
        self._rank = 0
        self._name: EpochName | None = None
        self._known: EpochAnswers | None = None
        self._fresh: dict[Place, Tensor] = {}
        self._place: Place = (0, 0)
        self._is_checked = False

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Learn which rank this is, and look into the store before anything is trained."""
        self._rank = trainer.global_rank
        self.store.open()

    def at(self, epoch: int, step: int, mixed: bool) -> None:
        """The next calls are about the parts of this batch."""
        name = EpochName(epoch, self._rank, mixed)
        if name != self._name:
            self._name, self._known, self._is_checked = name, self.store.read(name), False
            self._fresh.clear()
        self._place = step, 0

    def __call__(self, images: Tensor) -> Tensor:
        """images: [B, 3, H, W], the next part of the batch -> decisions [B] or logits [B, C]."""
        assert self._name is not None, "which batch this is has to be said first"
        place = self._place
        self._place = place[0], place[1] + 1
        if (stored := self._stored(place, images)) is not None:
            return stored
        answers = self.live(images)
        # A copy: a compiled network may write its next answers into the same memory.
        self._fresh[place] = answers.to(self.store.dtype, copy=True)
        return answers

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Store what the network was asked in this epoch, beside what was known."""
        if self._fresh and self._name is not None:
            known = {} if self._known is None else self._known.parts()
            parts = {place: answers.to("cpu", self.store.dtype) for place, answers in (known | self._fresh).items()}
            self.store.write(self._name, EpochAnswers.of_parts(parts))
        self._name, self._known = None, None
        self._fresh.clear()

    def _stored(self, place: Place, images: Tensor) -> Tensor | None:
        """The stored answers at a place; the first ones of an epoch are compared with the network's."""
        if self._known is None or self._known.at(place) is None:
            return None
        if not self._is_checked:
            self._known = self._known.to(images.device, torch.int64 if self.live.decisions else torch.float32)
        found = self._known.at(place)
        assert found is not None
        if len(found) != len(images):
            self._refuse(len(images), images)
        if not self._is_checked and (differing := int(self._differ(found, images).sum())):
            self._refuse(differing, images)
        self._is_checked = True
        return found

    def _refuse(self, differing: int, images: Tensor) -> None:
        assert self._name is not None
        raise CheckpointError(
            f"The teacher's answers in {self.store.folder} are not to the images of this run: {differing} of "
            f"{len(images)} are others in epoch {self._name.epoch}; delete that folder, or type {KEY}=null."
        )

    def _differ(self, stored: Tensor, images: Tensor) -> Tensor:
        """Which of the stored answers are none that the network could give, but for rounding: [B] bool."""
        answers = self.live.answers(images).float()
        best, worst = answers.amax(dim=1), answers.amin(dim=1)
        if self.live.decisions:
            off = best - answers.gather(1, stored[:, None])[:, 0]
        else:
            off = (stored / self.live.scale - answers).abs().amax(dim=1)
        return off > TIE * (best - worst)
