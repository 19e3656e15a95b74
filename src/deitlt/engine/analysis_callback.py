"""A stage's analysis while it is trained, made of its configuration."""

from functools import partial
from pathlib import Path
from typing import Any

import torch

from deitlt.callbacks import AnalysisWhileTraining
from deitlt.data import LongTailDataModule
from deitlt.engine.stage_config import StageConfig
from deitlt.engine.teacher_inputs import teacher_agreement
from deitlt.models import LiveTeacher


def build_analysis(stage: StageConfig) -> list[AnalysisWhileTraining]:
    """The callback; none where it is switched off, or in a run that was begun before there was one."""
    options = stage.run.get("analysis")
    if options is None or options["every"] is None:
        return []
    asked = partial(ask_teacher, stage, options["images"]) if stage.distils else None
    folder = Path(stage.folder)
    return [AnalysisWhileTraining(folder, options["every"], options["images"], options["parts"], agreement=asked)]


def ask_teacher(
    stage: StageConfig, images: int, datamodule: LongTailDataModule, device: torch.device | None = None
) -> dict[str, Any]:
    """The agreement of a student's teacher with the truth, as the analysis holds it.

    Args:
        stage: the student's.
        images: training images at most.
        datamodule: its data, with the teacher as their labeller.
        device: where to; None is where the data module's trainer trains, and without one the CPU.
    """
    live = datamodule.labeller
    assert isinstance(live, LiveTeacher), "nobody teaches"
    if device is None and datamodule.trainer is not None:
        device = datamodule.trainer.strategy.root_device
    # Its logits: a hard teacher's decision does not show that it was taken from NaN.
    return teacher_agreement(stage, datamodule, live.answers, images, device)
