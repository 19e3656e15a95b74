"""What comes before training: all that can be wrong with a run is looked for, and what is 'auto' is settled."""

from dataclasses import dataclass, replace

from omegaconf import DictConfig

from deitlt.checkpoints import check_start, check_teacher, check_unseen, find_checkpoint, read_spec
from deitlt.config.compose import difference
from deitlt.data import LongTailDataModule
from deitlt.engine.auto_batch import settle_batch
from deitlt.engine.building import batch_plan, build_data
from deitlt.engine.objective import check_objective
from deitlt.engine.rehearsal import is_begun, rehearse
from deitlt.engine.run_folder import RunFolder
from deitlt.engine.stage_config import StageConfig, check_run, plain
from deitlt.engine.stage_logging import settle_loggers
from deitlt.engine.stage_making import given_checkpoint, make_stage
from deitlt.errors import ConfigError
from deitlt.types import DataInfo


@dataclass(frozen=True)
class Prepared:
    """A run that nothing is known to be wrong with.

    stages: those to train, nothing of them 'auto' any more. info: what the data are. found: lines for the terminal,
    on what nobody knows and on what was settled. differences: from the recipe, in the stages' images per update.
    """

    stages: list[StageConfig]
    info: DataInfo
    found: list[str]
    differences: list[str]


def prepare(config: DictConfig, run: RunFolder) -> Prepared:
    """Look for everything that can be wrong, before anything is written or trained; list broken images in `config`.

    Raises:
        UserError: what was found.
    """
    check_run(config)
    check_objective(config)
    datamodule = _open_data(config, run)
    stages = [make_stage(config, run, name) for name in config.stages if given_checkpoint(config, name) is None]
    if not stages:
        raise ConfigError("Every stage is given as a checkpoint, so nothing is left to train; type deitlt evaluate.")
    doubts = _check_stages(config, run, stages, datamodule)
    stages, batches = _settle_batches(config, run, settle_loggers(stages))
    return Prepared(stages, datamodule.info, doubts + batches, _batch_differences(stages))


def _open_data(config: DictConfig, run: RunFolder) -> LongTailDataModule:
    """The run's data without its broken images; where none are listed, every file is decoded to find them."""
    datamodule = build_data(make_stage(config, run, config.stages[0]))
    if not config.data.exclude and (broken := datamodule.check_files()):
        config.data.exclude = broken
        datamodule = build_data(make_stage(config, run, config.stages[0]))
    return datamodule


def _check_stages(
    config: DictConfig, run: RunFolder, stages: list[StageConfig], datamodule: LongTailDataModule
) -> list[str]:
    """Build everything of every stage once, and look into the checkpoints that were given.

    Returns:
        What of them nobody knows.
    """
    doubts = []
    info = datamodule.info
    for stage in stages:
        rehearse(stage, info)
        if not is_begun(stage):
            doubts.append(check_start(stage.recipe.get("init"), stage.data))
    if (teacher := given_checkpoint(config, "teacher")) is not None:
        path = find_checkpoint(teacher, ("teacher",))
        known = check_teacher(path, datamodule, plain(config.teacher)).spec.data
        if any(stage.distils for stage in stages):
            doubts.append(check_unseen("teacher", path, known, plain(config.data)))
    if (student := given_checkpoint(config, "student")) is not None:
        read_spec(find_checkpoint(student, ("student",)))
    return [doubt for doubt in dict.fromkeys(doubts) if doubt is not None]  # student and baseline start alike


def _settle_batches(
    config: DictConfig, run: RunFolder, stages: list[StageConfig]
) -> tuple[list[StageConfig], list[str]]:
    """The stages, each with a number for its batch, and what was found where that is 'auto'."""
    settled = []
    for stage in stages:
        given = given_checkpoint(config, "teacher") if stage.distils else None
        teacher = make_stage(config, run, "teacher") if stage.distils and given is None else None
        path = None if given is None else str(find_checkpoint(given, ("teacher",)).absolute())
        settled.append(settle_batch(replace(stage, teacher=path), teacher))
    return [stage for stage, _ in settled], [said for _, said in settled if said is not None]


def _batch_differences(stages: list[StageConfig]) -> list[str]:
    """Stages whose devices and batches cannot make the recipe's images per update."""
    plans = [(stage.name, batch_plan(stage), stage.recipe["images_per_update"]) for stage in stages]
    return [
        difference(f"{name}: images per update", plan.images_per_update, wanted)
        for name, plan, wanted in plans
        if plan.images_per_update != wanted
    ]
