"""The picture of what a stage trains on, drawn before it does."""

from pathlib import Path

from deitlt.commands.inspect import student_examples, teacher_examples
from deitlt.engine.building import build_data, build_teacher
from deitlt.engine.stage_config import StageConfig
from deitlt.reports.figures import save_figure
from deitlt.reports.sample_figures import view_grid
from deitlt.transforms import TeacherInput


def draw_views(stage: StageConfig, path: Path) -> Path:
    """Draw a batch as the stage will see it, and what its teacher, if it has one, is asked about.

    Args:
        stage: the stage; data of its own are opened, so that none of training's is changed.
        path: the picture's file.

    Returns:
        The path.
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
