"""The pictures of a run's folders: what a stage trains on, and a picture of each part of an analysis."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from deitlt.analysis import epochs_trained, rollouts_of
from deitlt.data import LongTailDataModule
from deitlt.engine.build import build_data, build_teacher
from deitlt.engine.examples import student_examples, teacher_examples
from deitlt.engine.stage_config import StageConfig
from deitlt.models import StudentNetwork
from deitlt.modules import ClassifierModule
from deitlt.reports.analysis_figures import (
    attention_distances,
    calibration_errors,
    diversity_over_epochs,
    expert_diversity,
    feature_rank,
    feature_ranks,
    hessian_sharpness,
    teacher_agreement,
)
from deitlt.reports.class_figures import token_winners
from deitlt.reports.figures import save_figure
from deitlt.reports.run_data import Sample, epochs_in_words, samples_of
from deitlt.reports.sample_figures import RolloutExample, attention_rollouts, view_grid
from deitlt.tracking import drawing
from deitlt.transforms import TeacherInput
from deitlt.types import DataInfo

Plain = Mapping[str, Any]
FOLDER = "analysis"  # of a stage's, for pictures and for what the callback measured
TITLES = {
    "attention_distance": "how far its tokens look",
    "rank": "rank of its features",
    "diversity": "how far its experts are apart",
    "winners": "which token wins which class",
    "calibration": "confidence against accuracy",
    "agreement": "what its teacher knows of its images",
    "sharpness": "sharpness of the training loss",
    "diversity_over_epochs": "how far its experts are apart",
    "rollout": "attention rollout",
}
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
    folder, title = Path(stage.folder) / FOLDER, f"{datamodule.spec.name}, {stage.name}"
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
            of = _of(Sample(analysis["split"], len(rows)), epochs_trained(reported))
            _draw({"rollout": partial(attention_rollouts, rows)} if rows else {}, {"rollout": of}, folder, title)


def draw_analysis(
    analysis: Plain, info: DataInfo, rollouts: Sequence[RolloutExample], folder: Path, title: str
) -> list[Path]:
    """Draw what was measured; what has lost all of its numbers is not drawn, and pictures of an earlier analysis go.

    Each says of which images it is and after how many epochs. One that fails is warned about, and the others are drawn.

    Args:
        analysis: in plain values.
        info: the classes, their groups and training images.
        rollouts: rows of the rollouts' picture; none, no picture.
        folder: FOLDER of a stage's.
        title: of whom, such as 'digits, imbalance 20, student'.

    Returns:
        The paths of what was drawn.
    """
    for old in folder.glob("*.png"):
        old.unlink()
    samples, epoch = dict(samples_of(analysis)), analysis.get("epoch")
    drawers = dict(_drawers(analysis, info))
    if rollouts:
        drawers["rollout"] = partial(attention_rollouts, rollouts)
        samples["rollout"] = Sample(analysis["split"], len(rollouts))
    with drawing("diversity_over_epochs"):
        drawers |= _history(folder)
    return _draw(drawers, {part: _of(sample, epoch) for part, sample in samples.items()}, folder, title)


def _draw(
    drawers: Mapping[str, Callable[[str], Figure]], seconds: Mapping[str, str], folder: Path, title: str
) -> list[Path]:
    """Draw each part under its title into its file; seconds: the titles' second lines."""
    drawn: list[Path] = []
    for part, draw in drawers.items():
        with drawing(part):
            drawn.append(save_figure(draw(f"{title}: {TITLES[part]}{seconds.get(part, '')}"), folder / f"{part}.png"))
    return drawn


def _drawers(analysis: Plain, info: DataInfo) -> Iterator[tuple[str, Callable[[str], Figure]]]:
    """Part -> what draws it under a title."""
    if distances := _known(analysis.get("attention_distance", {}), "unit"):
        yield "attention_distance", partial(attention_distances, distances)
    if ranks := _known(analysis.get("rank", {}), "width"):
        draw, found = (feature_rank, ranks["features"]) if "features" in ranks else (feature_ranks, ranks)
        yield "rank", partial(draw, found, analysis["rank"]["width"])
    experts = [analysis.get("diversity", {}).get(name) for name in ("disagreement", "cosine_distance", "per_block")]
    if all(experts):
        yield "diversity", partial(expert_diversity, *experts)
    if "winners" in analysis:
        by_class = {found["class"]: found for found in analysis["winners"]["classes"]}
        cls, dist = ([by_class.get(c, {}).get(token) for c in range(info.num_classes)] for token in ("cls", "dist"))
        yield "winners", partial(token_winners, cls, dist, info.counts, info.class_names, info.groups)
    if errors := _known(analysis.get("calibration", {})):
        of_teacher = analysis["kind"] == "teacher"
        answers = {"teacher" if of_teacher else token.upper(): found for token, found in errors.items()}
        yield "calibration", partial(calibration_errors, answers)
    for part, draw_part in (("agreement", teacher_agreement), ("sharpness", hessian_sharpness)):
        if part in analysis:
            yield part, partial(draw_part, analysis[part])


def _history(folder: Path) -> dict[str, Callable[[str], Figure]]:
    """The experts' diversity over the epochs, where training measured it more than once."""
    found = [json.loads(path.read_text()) for path in sorted(folder.glob("epoch_*.json"))]
    history = {analysis["epoch"]: analysis["diversity"] for analysis in found if "diversity" in analysis}
    if len(history) < 2:
        return {}
    disagreement, distance = (
        {epoch: part.get(measure, {}) for epoch, part in history.items()}
        for measure in ("disagreement", "cosine_distance")
    )
    return {"diversity_over_epochs": partial(diversity_over_epochs, disagreement, distance)}


def _of(sample: Sample, epoch: int | None) -> str:
    """A title's second line: of which images a picture is, after how many epochs."""
    return f"\n{sample}" if epoch is None else f"\n{sample}, after {epochs_in_words(epoch)}"


def _known(part: Plain, *beside: str) -> Plain:
    """What of a part has numbers, without what stands beside them."""
    return {name: found for name, found in part.items() if name not in beside and found}
