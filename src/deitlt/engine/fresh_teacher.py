"""A teacher that nobody trained, where only what it costs is asked for."""

from pathlib import Path

import torch

from deitlt.data import LongTailDataModule
from deitlt.engine.building import build_module, build_spec
from deitlt.engine.stage_config import StageConfig


def write_fresh_teacher(stage: StageConfig, datamodule: LongTailDataModule, file: Path) -> Path:
    """Write a checkpoint with fresh weights, which answers as fast and takes as much as a trained one.

    Args:
        stage: the teacher's.
        datamodule: its data.
        file: to write, in a folder that is there.

    Returns:
        The file.
    """
    module, spec = build_module(stage, datamodule.info), build_spec(stage, datamodule)
    torch.save({"state_dict": module.state_dict(), "deitlt": spec.as_plain()}, file)
    return file
