"""The pictures of a run's folders: what a stage trains on, and what its analysis found."""

import json
from pathlib import Path
from typing import Any

from deitlt.analysis import epochs_trained, rollouts_of
from deitlt.data import LongTailDataModule
from deitlt.engine.build import build_data, build_teacher
from deitlt.engine.examples import student_examples, teacher_examples
from deitlt.engine.stage_config import StageConfig
from deitlt.models import StudentNetwork
from deitlt.modules import ClassifierModule
from deitlt.reports.analysis_figures import ANALYSIS_FOLDER, draw_analysis, draw_rollouts
from deitlt.reports.figures import save_figure
from deitlt.reports.image_figures import RolloutExample, view_grid
from deitlt.tracking import drawing
from deitlt.transforms import TeacherInput

_ROLLOUTS = 6  # images of a stage's


def draw_views(stage: StageConfig, path: Path) -> Path:
    """Draw a batch as the stage will see it, and what its teacher, if it has one, is asked about.

    Args:
        stage: the stage; data of its own are opened, so that none of training's is changed.
        path: the picture's file.
    """
    data, title = build_data(stage), f"What the {stage.name} trains on"
    if stage.kind == "teacher":
        return save_figure(view_grid(teacher_examples(data, stage.seed), title), path)
    teacher = build_teacher(stage, data)
    if teacher is None:
        return save_figure(view_grid(student_examples(data, None, stage.seed), title), path)
    assert isinstance(teacher.input, TeacherInput)
    title = f"{title}, and what its teacher is asked about"
    return save_figure(view_grid(student_examples(data, teacher.input, stage.seed), title), path)


def draw_stage_analysis(
    stage: StageConfig, module: ClassifierModule, datamodule: LongTailDataModule, reported: Path
) -> None:
    """Draw each part as it was measured last, and a student's rollouts on a few images of the same split.

    Nothing is drawn where nothing was measured, and nothing of the test set. What fails is warned about: the stage is
    finished.

    Args:
        stage: the stage.
        module: its module, with the weights that are reported.
        datamodule: its data.
        reported: the checkpoint of these weights.
    """
    folder, title = Path(stage.folder) / ANALYSIS_FOLDER, f"{datamodule.spec.name}, {stage.name}"
    analysis: dict[str, Any] = {}
    with drawing("analysis"):
        for path in sorted(folder.glob("epoch_*.json")):
            analysis |= json.loads(path.read_text())
        if analysis:
            draw_analysis(analysis, datamodule.info, [], folder, title)
    with drawing("rollout"):
        if analysis and isinstance(module.network, StudentNetwork):
            found = rollouts_of(module.network, datamodule, analysis["split"], _ROLLOUTS)
            rows = [RolloutExample(*rollout) for rollout in found if rollout is not None]
            draw_rollouts(rows, analysis["split"], epochs_trained(reported), folder, title)
