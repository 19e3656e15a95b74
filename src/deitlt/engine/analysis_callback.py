"""A stage's analysis while it is trained, made of its configuration."""

from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from deitlt.callbacks import AnalysisWhileTraining
from deitlt.data import LongTailDataModule
from deitlt.engine.stage_config import StageConfig
from deitlt.engine.teacher_inputs import teacher_agreement
from deitlt.modules import FrozenTeacher


def build_analysis(stage: StageConfig, teacher: FrozenTeacher | None) -> list[AnalysisWhileTraining]:
    """The callback; none where it is switched off, or in a run that was begun before there was one."""
    options = stage.run.get("analysis")
    if options is None or options["every"] is None:
        return []
    asked = None if teacher is None else partial(ask_teacher, stage, options["images"], teacher)
    folder = Path(stage.folder)
    return [AnalysisWhileTraining(folder, options["every"], options["images"], options["parts"], agreement=asked)]


def ask_teacher(
    stage: StageConfig,
    images: int,
    teacher: FrozenTeacher,
    datamodule: LongTailDataModule,
    device: torch.device | None = None,
) -> dict[str, Any]:
    """The agreement of a student's teacher with the truth, as the analysis holds it.

    Args:
        stage: the student's.
        images: training images at most.
        teacher: the student's.
        datamodule: the student's data.
        device: where to; None is where the data module's trainer trains, and without one the CPU.
    """
    if device is None and datamodule.trainer is not None:
        device = datamodule.trainer.strategy.root_device

    def output(student_images: Tensor) -> Tensor:
        return teacher.output(teacher.input(student_images))  # not hard labels, which hide a NaN

    return teacher_agreement(stage, datamodule, output, images, device)
