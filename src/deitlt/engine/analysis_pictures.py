"""The pictures of an analysis: one of each part, and how the experts grew apart while they were trained."""

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

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
from deitlt.reports.sample_figures import RolloutExample, attention_rollouts
from deitlt.tracking import drawing
from deitlt.types import DataInfo

Plain = Mapping[str, Any]
TITLES = {
    "attention distance": "how far its tokens look",
    "rank": "rank of its features",
    "diversity": "how far its experts are apart",
    "winners": "which token wins which class",
    "calibration": "confidence against accuracy",
    "agreement": "what its teacher knows of its images",
    "sharpness": "sharpness of the training loss",
    "rollout": "attention rollout",
}
FOLDER = "analysis"  # of a stage's, for pictures and for what the callback measured
HISTORY = "diversity_over_epochs"


def draw_analysis(
    analysis: Plain,
    info: DataInfo,
    rollouts: Sequence[RolloutExample],
    folder: Path,
    title: str,
    kept: Collection[str] = (),
) -> list[Path]:
    """Draw what was measured; what has lost all of its numbers is not drawn, and pictures of an earlier analysis go.

    Each says of which images it is and after how many epochs. One that fails is warned about, and the others are drawn.

    Args:
        analysis: in plain values.
        info: the classes, their groups and training images.
        rollouts: rows of the rollouts' picture; none, no picture.
        folder: FOLDER of a stage's.
        title: of whom, such as 'digits, imbalance 20, student'.
        kept: the names of pictures that stay where no new one is drawn, such as 'rollout'.

    Returns:
        The paths of what was drawn.
    """
    for old in folder.glob("*.png"):
        if old.stem not in kept:
            old.unlink()
    drawers: dict[str, Callable[[str], Figure]] = {}
    if distances := _known(analysis.get("attention_distance", {}), "unit"):
        drawers["attention distance"] = partial(attention_distances, distances)
    if ranks := _known(analysis.get("rank", {}), "width"):
        width, of_teacher = analysis["rank"]["width"], ranks.get("features")
        drawers["rank"] = (
            partial(feature_rank, of_teacher, width) if of_teacher else partial(feature_ranks, ranks, width)
        )
    experts = [analysis.get("diversity", {}).get(name) for name in ("disagreement", "cosine_distance", "per_block")]
    if all(experts):
        drawers["diversity"] = partial(expert_diversity, *experts)
    if "winners" in analysis:
        recalls = _recalls(analysis["winners"]["classes"], info.num_classes)
        drawers["winners"] = partial(token_winners, *recalls, info.counts, info.class_names, info.groups)
    if errors := _known(analysis.get("calibration", {})):
        answers = {_answer(token, analysis["kind"]): found for token, found in errors.items()}
        drawers["calibration"] = partial(calibration_errors, answers)
    if "agreement" in analysis:
        drawers["agreement"] = partial(teacher_agreement, analysis["agreement"])
    if "sharpness" in analysis:
        drawers["sharpness"] = partial(hessian_sharpness, analysis["sharpness"])
    samples, epoch = samples_of(analysis), analysis.get("epoch")
    drawn: list[Path] = []
    for part, draw in drawers.items():
        name = part.replace(" ", "_")
        with drawing(name):
            figure = draw(f"{title}: {TITLES[part]}{_of(samples.get(name), epoch)}")
            drawn.append(save_figure(figure, folder / f"{name}.png"))
    if rollouts:
        drawn += draw_rollouts(rollouts, analysis["split"], epoch, folder, title)
    with drawing(HISTORY):
        drawn += draw_history(folder, title)
    return drawn


def draw_rollouts(
    rollouts: Sequence[RolloutExample], split: str, epoch: int | None, folder: Path, title: str
) -> list[Path]:
    """Draw the rollouts of images of a split after so many epochs; an error is a warning, and no picture."""
    of = _of(Sample(split, len(rollouts)), epoch)
    drawn: list[Path] = []
    with drawing("rollout"):
        figure = attention_rollouts(rollouts, f"{title}: {TITLES['rollout']}{of}")
        drawn.append(save_figure(figure, folder / "rollout.png"))
    return drawn


def _of(sample: Sample | None, epoch: int | None) -> str:
    """A title's second line: of which images a picture is, after how many epochs; '' for what names no images."""
    if sample is None:
        return ""
    return f"\n{sample}" if epoch is None else f"\n{sample}, after {epochs_in_words(epoch)}"


def _known(part: Plain, *beside: str) -> Plain:
    """What of a part has numbers, without what stands beside them."""
    return {name: found for name, found in part.items() if name not in beside and found}


def draw_history(folder: Path, title: str) -> list[Path]:
    """Draw the experts' diversity over the epochs, where training measured it more than once."""
    found = [json.loads(path.read_text()) for path in sorted(folder.glob("epoch_*.json"))]
    history = {analysis["epoch"]: analysis["diversity"] for analysis in found if "diversity" in analysis}
    if len(history) < 2:
        return []
    disagreement = {epoch: diversity.get("disagreement", {}) for epoch, diversity in history.items()}
    distance = {epoch: diversity.get("cosine_distance", {}) for epoch, diversity in history.items()}
    figure = diversity_over_epochs(disagreement, distance, f"{title}: {TITLES['diversity']}")
    return [save_figure(figure, folder / f"{HISTORY}.png")]


def _answer(token: str, kind: str) -> str:
    return "teacher" if kind == "teacher" else token.upper()


def _recalls(classes: Sequence[Plain], num_classes: int) -> tuple[list[float | None], list[float | None]]:
    """CLS's and DIST's recall of each class, [C] each; None where it has no image."""
    by_class = {found["class"]: found for found in classes}
    cls, dist = (
        [by_class[c][token] if c in by_class else None for c in range(num_classes)] for token in ("cls", "dist")
    )
    return cls, dist
