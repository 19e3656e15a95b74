"""The pictures of a stage's folder: what it trains on, its accuracy by class, and what its analysis found."""

import json
from functools import partial
from pathlib import Path
from typing import Any

from deitlt.analysis import epochs_trained, rollouts_of
from deitlt.data import LongTailDataModule
from deitlt.engine.build import build_data, build_teacher
from deitlt.engine.examples import student_examples, teacher_examples
from deitlt.engine.stage_config import StageConfig
from deitlt.models import StudentNetwork
from deitlt.modules import RAW, ClassifierModule
from deitlt.reports.analysis_figures import ANALYSIS_FOLDER, draw_analysis, draw_rollouts
from deitlt.reports.class_figures import MOST_CONFUSED, confusion_picture, per_class_accuracy
from deitlt.reports.figures import save_figure
from deitlt.reports.image_figures import RolloutExample, image_grid
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
        examples = teacher_examples(data, stage.seed)
    else:
        teacher = build_teacher(stage, data)
        asked = None if teacher is None else teacher.input
        assert asked is None or isinstance(asked, TeacherInput)
        title += "" if asked is None else ", and what its teacher is asked about"
        examples = student_examples(data, asked, stage.seed)
    return save_figure(image_grid(examples, title), path)


def draw_classes(stage: StageConfig, module: ClassifierModule) -> list[Path]:
    """Draw a tested stage's accuracy of each class, and of few classes their confusion, into its folder.

    One that fails is warned about, and absent.
    """
    info, recalls = module.info, module.results["test"][RAW].per_class
    classes = info.counts, info.class_names, info.groups
    if module.names_tokens:  # of the answers, the experts and their mean
        recalls = {token.upper(): recalls[token] for token in module.tokens}
    figures = {"per_class": partial(per_class_accuracy, recalls, *classes, stage.name)}
    for token in module.confusions if info.num_classes <= MOST_CONFUSED else ():
        name, label = (f"confusion_{token}", token.upper()) if module.names_tokens else ("confusion", "its answers")
        matrix = module.confusions[token].matrix(info.num_classes).numpy()
        figures[name] = partial(confusion_picture, matrix, *classes, f"{stage.name}, {label}: test images")
    drawn = []
    for name, draw in figures.items():
        with drawing(name):
            drawn.append(save_figure(draw(), Path(stage.folder) / f"{name}.png"))
    return drawn


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
