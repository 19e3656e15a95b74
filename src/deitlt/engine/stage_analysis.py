"""The pictures of what a stage's analysis measured while it was trained, drawn at its end."""

import json
from pathlib import Path
from typing import Any

from deitlt.analysis import epochs_trained, rollouts_of
from deitlt.data import LongTailDataModule
from deitlt.engine.analysis_pictures import FOLDER, draw_analysis, draw_rollouts
from deitlt.engine.stage_config import StageConfig
from deitlt.models import StudentNetwork
from deitlt.modules import ClassifierModule
from deitlt.reports.sample_figures import RolloutExample
from deitlt.tracking import drawing

ROLLOUTS = 6  # images


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
            rollouts = rollouts_of(module.network, datamodule, analysis["split"], ROLLOUTS)
            whole = [RolloutExample(*rollout) for rollout in rollouts if rollout is not None]
            if whole:
                draw_rollouts(whole, analysis["split"], epochs_trained(reported), folder, title)
