"""A stage in TensorBoard: RUN/tensorboard/STAGE has its event files. TensorBoard is imported only where it is used."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from PIL import Image

from deitlt.tracking.failures import forgiving
from deitlt.tracking.interface import Begin, OncePerStep, StageNames

TENSORBOARD = "tensorboard"  # in the run's


class StageTensorBoardLogger(TensorBoardLogger):
    """Lightning's, but a row may come twice, each is on the disk at once, and what fails is warned about.

    Args:
        folder: of the event files.
        begin: where the stage is taken up; of a resumed one TensorBoard forgets what it had of this and later steps.
    """

    program = "TensorBoard"

    def __init__(self, folder: Path, begin: Begin) -> None:
        purged: dict[str, Any] = {"purge_step": begin.step} if begin.resumes else {}
        super().__init__(folder.parent, name="", version=folder.name, default_hp_metric=False, **purged)
        self._begin, self._once = begin, OncePerStep()

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log the metrics at a global step."""
        with forgiving("metrics", self.program):
            if new := self._once.new(metrics, self._step if step is None else step):
                super().log_metrics(new, self._once.step)
            self.experiment.flush()

    @rank_zero_only
    def log_hyperparams(self, *_: Any, **__: Any) -> None:
        """Write nothing: the run's configuration is there as text."""

    @rank_zero_only
    def save(self) -> None:
        """Write nothing but events."""

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Stay open, for what is logged after training."""

    @rank_zero_only
    def add_config(self, config: Mapping[str, Any]) -> None:
        """Put the run's configuration there as text."""
        lines = yaml.safe_dump(dict(config), sort_keys=False).splitlines()
        self._text("config", "\n".join(f"    {line}" for line in lines))

    @rank_zero_only
    def add_summary(self, values: Mapping[str, float]) -> None:
        """Curves of one point."""
        for name, value in values.items():
            self.experiment.add_scalar(name, value, self._step)
        self.experiment.flush()

    @rank_zero_only
    def add_pictures(self, pictures: Mapping[str, Path]) -> None:
        """Pictures' files by name."""
        for name, path in pictures.items():
            self.experiment.add_image(name, np.asarray(Image.open(path).convert("RGB")), self._step, dataformats="HWC")
        self.experiment.flush()

    @rank_zero_only
    def add_table(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """A table as text, which TensorBoard draws as one."""
        columns = list(rows[0]) if rows else []
        cells = [columns, ["---"] * len(columns), *([_cell(row.get(name)) for name in columns] for row in rows)]
        self._text(name, "\n".join(f"| {' | '.join(line)} |" for line in cells))

    @rank_zero_only
    def finish(self, exit_code: int) -> None:
        """Close the event files."""
        self.experiment.close()

    @property
    def _step(self) -> int:
        return max(self._begin.step, self._once.step)

    def _text(self, name: str, text: str) -> None:
        self.experiment.add_text(name, text, self._step)
        self.experiment.flush()


def _cell(value: Any) -> str:
    text = "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
    return text.replace("|", "\\|")


def tensorboard_logger(
    names: StageNames, config: Mapping[str, Any], folder: Path, begin: Begin
) -> StageTensorBoardLogger:
    """Begin a stage's event files, or add one to them.

    Args:
        names: the stage's.
        config: what the run was started with, resolved to plain containers.
        folder: where event files go, as FOLDER/tensorboard/STAGE.
        begin: where the stage is taken up.

    Raises:
        OSError: they cannot be written.
    """
    logger = StageTensorBoardLogger(folder / TENSORBOARD / names.stage, begin)
    if config and begin == Begin():
        logger.add_config(config)
    return logger
