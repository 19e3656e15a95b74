"""What a search was given to begin with: looked into before the first trial, for it would end all of them."""

from os.path import expanduser

from omegaconf import DictConfig, OmegaConf

from deitlt.checkpoints import check_start, check_unseen, find_checkpoint, read_stored
from deitlt.config.compose import make_absolute
from deitlt.engine.stage_config import given_checkpoint, plain, stage_recipe


def refuse_seen(config: DictConfig) -> None:
    """Look whether a given teacher, or a student's start, was trained on the images that a search chooses by.

    Args:
        config: of one of its trials.

    Raises:
        CheckpointError: it was, or there is no such checkpoint.
    """
    trained = [name for name in ("student", "baseline") if name in config.stages]
    recipes = [stage_recipe(config, name) for name in trained if given_checkpoint(config, name) is None]
    kept = OmegaConf.create({"data": plain(config.data)})
    make_absolute(kept)  # as a run keeps them
    data = plain(kept.data)
    for recipe in recipes:
        check_start(recipe["init"], data)
    if config.teacher.checkpoint is None or all(recipe["distillation"]["kind"] == "none" for recipe in recipes):
        return
    stored = read_stored(find_checkpoint(expanduser(config.teacher.checkpoint), ("teacher",)))
    if stored.spec is not None:
        check_unseen("teacher", stored.path, stored.spec.data, data)
