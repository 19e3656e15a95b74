"""Which of the teacher's answers a student may share with another: the schedule of its images, as text."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from torch import nn

from deitlt.callbacks import StoredTeacher
from deitlt.checkpoints import AnswerStore
from deitlt.data import LongTailDataModule
from deitlt.engine.building import batch_plan
from deitlt.engine.stage_config import StageConfig
from deitlt.models import LiveTeacher
from deitlt.transforms import TeacherView

# Libraries that draw, decode and scale: another version may make other images of the same draws.
LIBRARIES = ("deitlt", "torch", "torchvision", "timm", "numpy", "pillow")
# What leaves the images as they are: how they are fetched and grouped, and what becomes of the targets alone.
FREE_OF_DATA = ("download", "num_workers", "verify", "on_broken", "groups", "group_cuts")
FREE_OF_MIXING = ("smoothing", "attention")


def with_store(
    stage: StageConfig, datamodule: LongTailDataModule, live: LiveTeacher | None
) -> StoredTeacher | LiveTeacher | None:
    """The teacher with a memory, where `student.teacher_view.store` names a folder."""
    folder = None if live is None else stage.recipe["teacher_view"].get("store")
    if live is None or folder is None:
        return live
    schedule = schedule_text(stage, datamodule, live)
    return StoredTeacher(live, AnswerStore(Path(folder), schedule, datamodule.info.num_classes, live.decisions))


def schedule_text(stage: StageConfig, datamodule: LongTailDataModule, live: LiveTeacher) -> str:
    """All that a student's images and the teacher's answers to them depend on, but for rank and epoch, as JSON.

    The epochs in all, the learning rate, the losses, the student's size and the like are not in it, so that a
    sweep over them shares the answers; nor is the epoch at which mixing ends, for mixed and unmixed epochs are
    stored apart.

    Args:
        stage: the student's.
        datamodule: its data.
        live: its teacher, with fresh weights or others.
    """
    recipe, views = stage.recipe, stage.recipe["views"]
    content = {
        "versions": {name: version(name) for name in LIBRARIES},
        "accelerator": stage.trainer["accelerator"],
        "devices": stage.ranks,
        "seed": stage.seed,
        "teacher": _teacher(live),
        "data": _without(stage.data, FREE_OF_DATA),
        "labels": hashlib.sha256(datamodule.splits.train.labels.tobytes()).hexdigest(),
        "sampler": recipe.get("sampler"),
        "view": views["train"],
        "mixing": views["mixing"] and _without(views["mixing"], FREE_OF_MIXING),
        "teacher_sees": datamodule.teacher_sees,
        "image_size": datamodule.image_size,
        "normalisation": asdict(datamodule.normalisation),
        "batch_size": batch_plan(stage).batch_size,
        "drop_last": recipe["drop_last"],
    }
    return json.dumps(content, indent=1, sort_keys=True)


def _teacher(live: LiveTeacher) -> dict[str, Any]:
    """What decides the teacher's answer to an image."""
    assert isinstance(live.view, TeacherView)
    return {
        "network": _digest(live.network),
        "view": asdict(live.view),
        "decisions": live.decisions,
        "scale": None if live.decisions else live.scale,
        "dtype": str(live.dtype),
        "class_order": None if live.class_order is None else live.class_order.tolist(),
    }


def _digest(network: nn.Module) -> str:
    """Of the layers and the weights, whatever file they came from."""
    digest = hashlib.sha256(str(network).encode())
    for name, value in sorted(network.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.cpu().contiguous().numpy().data)
    return digest.hexdigest()


def _without(node: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: value for name, value in node.items() if name not in names}
