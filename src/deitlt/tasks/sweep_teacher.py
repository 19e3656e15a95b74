"""What a search was given to begin with: looked into before the first trial, for it would end all of them."""

from os.path import expanduser
from pathlib import Path

from omegaconf import DictConfig

from deitlt.checkpoints import find_checkpoint, read_stored
from deitlt.tasks.stage_config import plain
from deitlt.tasks.teachers import CheckedTeacher
from deitlt.tasks.unseen import LISTS, check_start, check_unseen


def refuse_seen(config: DictConfig) -> None:
    """Look whether a given teacher, or a student's start, was trained on the images that a search chooses by.

    Args:
        config: of one of its trials.

    Raises:
        CheckpointError: it was, or there is no such checkpoint.
    """
    data = plain(config.data)
    for key in ("root", *LISTS):  # as a run keeps them
        if data.get(key) is not None:
            data[key] = str(Path(data[key]).expanduser().absolute())
    check_start(config.student.init, data)
    distils = "student" in config.stages and config.student.distillation.kind != "none"
    if config.teacher.checkpoint is None or not distils:
        return
    stored = read_stored(find_checkpoint(expanduser(config.teacher.checkpoint), ("teacher",)))
    if stored.card is not None:
        check_unseen(CheckedTeacher(stored, stored.card, None), data)
