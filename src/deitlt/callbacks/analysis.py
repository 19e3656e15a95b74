"""What becomes of the network while it is trained, measured now and then on a few of its images."""

import json
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.utilities.seed import isolate_rng

from deitlt.analysis import STUDENT_PARTS, analyse, finite, scalars, split_of
from deitlt.checkpoints import write_atomically
from deitlt.data import LongTailDataModule
from deitlt.data.samplers import choose_evenly
from deitlt.modules import ClassifierModule
from deitlt.tracking import first_line, warn_once

FOLDER = "analysis"  # of a stage's, for what is measured at an epoch: epoch_0010.json
AGREEMENT = "agreement"
Plain = dict[str, Any]


class AnalysisWhileTraining(L.Callback):
    """Analyses the trained weights every few epochs and after the last, and the teacher before the first.

    Nothing of the test set is looked at: the images are the validation split's where there is one, else training
    images in the evaluation view; always the same ones, as many of each class as there are. Numbers go to the
    trainer's loggers, named as in `scalars`, and to FOLDER/analysis/epoch_NNNN.json, where NNNN epochs had been
    trained.

    It leaves training as it is: no generator moves, each layer keeps its mode, nothing is stored in the
    checkpoint. Only the first rank measures; there is no collective in it, and the others wait at their next one.
    Nor does it stop training: what fails is warned about, once for each reason, and looked for at its next turn.

    Args:
        folder: the stage's.
        every: epochs between two analyses.
        images: how many are looked at.
        parts: of 'attention', 'rank', 'diversity', 'winners', 'agreement'; what a network lacks is left out.
        batch_size: images at once.
        agreement: measures how often the teacher names the true class of what the student is shown, as an analysis'
            parts 'agreement' and 'consistency'; None where nobody teaches. It is asked once, before the first epoch.
    """

    def __init__(
        self,
        folder: Path,
        every: int,
        images: int,
        parts: Collection[str],
        batch_size: int = 64,
        agreement: Callable[[LongTailDataModule], Plain] | None = None,
    ) -> None:
        self.folder = folder / FOLDER
        self.every, self.images, self.batch_size = every, images, batch_size
        self.parts = [part for part in parts if part in STUDENT_PARTS]
        self.agreement = agreement if AGREEMENT in parts else None
        self._first: dict[str, float] = {}  # curves of what was measured before the first epoch, until its end

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Ask the teacher, unless training goes on from a checkpoint."""
        ask, datamodule = self.agreement, getattr(trainer, "datamodule", None)
        if trainer.is_global_zero and ask is not None and trainer.current_epoch == 0:
            assert isinstance(datamodule, LongTailDataModule)
            head = {"kind": "student", "epoch": 0, "split": "train"}
            self._first = self._look(AGREEMENT, lambda: head | ask(datamodule))

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Analyse the network where this epoch's turn has come."""
        if not trainer.is_global_zero:
            return
        curves, self._first = self._first, {}
        epoch, datamodule = trainer.current_epoch + 1, getattr(trainer, "datamodule", None)
        if epoch % self.every == 0 or epoch == trainer.max_epochs:
            assert isinstance(pl_module, ClassifierModule)
            assert isinstance(datamodule, LongTailDataModule)
            curves |= self._look("pass", lambda: self._analyse(pl_module, datamodule, epoch))
        if curves:
            pl_module.log_dict(curves, rank_zero_only=True)

    def _look(self, what: str, measure: Callable[[], Plain]) -> dict[str, float]:
        """Write what is measured and finite; its curves, or none where anything of it fails.

        It comes before the epoch's checkpoint: an error that went on would end each resume at the same place.
        """
        with isolate_rng():  # it puts nothing back where an error passes through it
            try:
                began = time.monotonic()
                measured = measure()
                measured["seconds"] = {what: round(time.monotonic() - began, 3)}
                analysis: Plain = finite(measured)
                text = json.dumps(analysis, indent=1, allow_nan=False).encode()
                write_atomically(self.folder / f"epoch_{analysis['epoch']:04d}.json", lambda file: file.write(text))
                return scalars(analysis)
            except Exception as error:  # of whatever kind: memory, a full disk, blocks that cannot be watched
                reason = first_line(error)
                warn_once(
                    f"analysis: {reason}",
                    f"The analysis while training failed ({reason}), and training goes on without it; "
                    "type analysis.every=null to switch it off.",
                )
                return {}

    def _analyse(self, module: ClassifierModule, datamodule: LongTailDataModule, epoch: int) -> Plain:
        split = "train" if datamodule.splits.val is None else "val"
        source = split_of(datamodule, split)
        chosen = choose_evenly(source.labels, self.images, seed=0)
        batches = datamodule.evaluation_batches(source, chosen, self.batch_size)
        found = analyse(module.network, batches, module.info, self.parts)
        if len(chosen) < 2:
            found.pop("rank", None)  # one image varies in no direction
        kind = "student" if hasattr(module.network, "tokens") else "teacher"
        return {"kind": kind, "epoch": epoch, "images": len(chosen), "split": split, **found}
