"""A run's stages, made of its configuration: which checkpoint stands for one, and which one teaches it."""

from dataclasses import replace

from omegaconf import DictConfig

from deitlt.checkpoints import find_checkpoint
from deitlt.engine.devices import choose_compile, choose_precision, count_devices
from deitlt.engine.run_folder import RunFolder
from deitlt.engine.stage_config import StageConfig, check_epochs, plain, stage_recipe
from deitlt.engine.stage_logging import group_of


def make_stage(config: DictConfig, run: RunFolder, name: str) -> StageConfig:
    """The configuration of one stage, its devices and all that follows from them resolved."""
    recipe = stage_recipe(config, name)
    node = "student" if name == "baseline" else name
    check_epochs(node, recipe)
    trainer = plain(config.trainer)
    key, wanted = f"{node}.devices", recipe["devices"]
    if wanted is None:
        key, wanted = "trainer.devices", trainer["devices"]
    trainer["accelerator"], trainer["devices"] = count_devices(trainer["accelerator"], wanted, devices_key=key)
    trainer["precision"] = choose_precision(trainer["precision"], trainer["accelerator"])
    trainer["compile"] = choose_compile(trainer.get("compile", False), trainer["accelerator"])  # older runs have none
    return StageConfig(
        name=name,
        folder=str(run.stage(name)),
        seed=config.seed,
        protocol=config.protocol,
        watch_test=config.watch_test,
        evaluate_every=config.evaluate_every,
        checkpoint_every=config.checkpoint_every,
        data=plain(config.data),
        recipe=recipe,
        trainer=trainer,
        logger=plain(config.logger),
        teacher=None,
        run=plain(config),
        group=group_of(run),
    )


def given_checkpoint(config: DictConfig, stage: str) -> str | None:
    """What stands for a stage, if it was given; a baseline is always trained."""
    given: str | None = None if stage == "baseline" else config[stage].checkpoint
    return given


def with_teacher(stage: StageConfig, config: DictConfig, run: RunFolder) -> StageConfig:
    """The stage with the checkpoint that labels its images, given or trained before."""
    if not stage.distils:
        return stage
    given = given_checkpoint(config, "teacher")
    path = find_checkpoint(given, ("teacher",)) if given else find_checkpoint(run.path, ("teacher",))
    return replace(stage, teacher=str(path.absolute()))
