"""`data.resident=auto`: whether a stage's images live on its device, settled before anything is launched."""

from dataclasses import replace
from pathlib import Path

import torch

from deitlt.engine.building import build_data
from deitlt.engine.ranks import STAGE_FILE
from deitlt.engine.stage_config import StageConfig


def settle_residence(stage: StageConfig) -> StageConfig:
    """The stage with true or false in place of 'auto', where its views are made on the device.

    A stage that was begun keeps what it had, however much memory is free now: crops of files are drawn on the device
    if they live there, else in workers, and a resumed run repeats its draws.

    Raises:
        ConfigError: the images were asked to live on the device, and cannot.
    """
    begun = Path(stage.folder) / STAGE_FILE
    if begun.exists():
        return _with(stage, StageConfig.load(begun).data.get("resident", "auto"))
    device = torch.device("cuda" if stage.trainer["accelerator"] == "gpu" else "cpu")
    return _with(stage, build_data(stage).choose_resident(device))


def _with(stage: StageConfig, resident: bool | str) -> StageConfig:
    return replace(stage, data={**stage.data, "resident": resident})
