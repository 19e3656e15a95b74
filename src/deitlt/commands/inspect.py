"""`deitlt inspect`: pictures of what the student and the teacher will see, and of the long tail."""

from omegaconf import DictConfig
from rich.console import Console

from deitlt.checkpoints import check_teacher, find_checkpoint
from deitlt.data import LongTailDataModule
from deitlt.engine.build import build_data, build_teacher_input
from deitlt.engine.checks import check_run
from deitlt.engine.examples import device_operations, student_examples, teacher_examples
from deitlt.engine.run_folder import RunFolder
from deitlt.engine.stage_config import StageConfig, make_stage
from deitlt.reports.class_figures import class_histogram
from deitlt.reports.figures import save_figure
from deitlt.reports.image_figures import image_grid
from deitlt.transforms import TeacherInput


def main(config: DictConfig) -> None:
    """Write the pictures of what the run's stages will see into the output folder.

    views.png: the student's training views, and what its teacher, if it has one, is asked about; of the
    baseline where `stages` has no student, and absent where it has neither. teacher_views.png: the teacher's
    own training views, by the recipe, where `stages` has a teacher or the student learns from one.
    operations.png: RandAugment on the device beside timm's, where the student's views are made there.
    classes.png: the classes' counts, always.
    """
    check_run(config)
    run = RunFolder.of_job(config)
    stages = [make_stage(config, run, name) for name in config.stages]
    students = sorted((stage for stage in stages if stage.kind == "student"), key=lambda stage: stage.name != "student")
    data, pages, teacher = build_data([*students, *stages][0]), {}, None
    if "teacher" in config.stages or any(stage.distils for stage in students):
        teacher = build_data(make_stage(config, run, "teacher"))
    if students:
        title, asked = f"What the {students[0].name} trains on", None
        if students[0].distils:
            assert teacher is not None
            title, asked = f"{title}, and what its teacher is asked about", _teacher_input(students[0], data, teacher)
        pages["views.png"] = title, student_examples(data, asked, config.seed)
        if beside := device_operations(data, config.seed):
            pages["operations.png"] = "RandAugment by timm and on the device", beside
    if teacher is not None:
        whose = "the teacher" if config.teacher.checkpoint is None else "the recipe's teacher"
        pages["teacher_views.png"] = f"What {whose} trains on", teacher_examples(teacher, config.seed)
    figures = {name: image_grid(examples, title) for name, (title, examples) in pages.items()}
    figures["classes.png"] = class_histogram(data.info.counts, data.info.class_names, data.info.groups)
    pictures = [save_figure(figure, run.path / name) for name, figure in figures.items()]
    Console().out(*pictures, sep="\n", highlight=False)


def _teacher_input(student: StageConfig, data: LongTailDataModule, teacher: LongTailDataModule) -> TeacherInput:
    """How the teacher will see the student's images: the one that is given, or the recipe's, untrained yet."""
    given = student.run["teacher"]["checkpoint"]
    if given is None:
        return build_teacher_input(student, data, teacher.image_size, teacher.normalisation)
    spec = check_teacher(find_checkpoint(given, ("teacher",)), data, student.run["teacher"]).spec
    return build_teacher_input(student, data, spec.image_size, spec.normalisation)
