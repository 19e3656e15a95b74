"""What a run says before it trains, and after."""

from omegaconf import DictConfig
from rich.console import Console

from deitlt.engine.building import batch_plan
from deitlt.engine.run_folder import RunFolder
from deitlt.engine.stage_config import StageConfig
from deitlt.types import DataInfo


def announce(
    config: DictConfig,
    run: RunFolder,
    stages: list[StageConfig],
    info: DataInfo,
    batches: list[str],
    changed: list[str],
    console: Console,
) -> None:
    """Say what is about to be trained, and where it departs from its recipe."""

    def say(text: str) -> None:
        console.print(text, highlight=False, soft_wrap=True, markup=False)

    say(f"run: {run.path}")
    say(
        f"data: {config.data.name}, {sum(info.counts)} training images in {info.num_classes} classes, "
        f"{max(info.counts)} to {min(info.counts)} a class"
    )
    asked, found = config.data.imbalance_factor, min(info.counts) / max(info.counts)
    if asked is not None and not 0.8 < found / asked < 1.25:
        say(f"data: imbalance {1 / asked:g} was asked for, but the classes have images for {1 / found:.3g}")
    if config.data.exclude:
        say(f"data: {len(config.data.exclude)} broken image files are left out")
    for stage in stages:
        say(f"{stage.name}: {stage.recipe['epochs']} epochs, {batch_plan(stage)}")
    for words in batches:  # that were found
        say(words)
    for change in changed:
        say(f"not as in the recipe: {change}")


def say_how_to_upload(config: DictConfig, run: RunFolder, console: Console) -> None:
    """One line on how an offline W&B run gets to the server."""
    if config.logger.wandb is not None:
        from deitlt.tracking.wandb import upload_hint  # W&B is imported only where it is used

        if hint := upload_hint(run.path):
            console.print(hint, highlight=False, soft_wrap=True, markup=False)
