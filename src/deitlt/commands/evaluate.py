"""`deitlt evaluate`: a checkpoint's accuracies on a test set, by token and group."""

from functools import partial
from typing import Any

from omegaconf import DictConfig
from rich.console import Console

from deitlt.checkpoints import ModelCard
from deitlt.data import LongTailDataModule
from deitlt.engine.card_data import open_card_data
from deitlt.engine.experiments import chosen_recipe, named_recipe
from deitlt.engine.results import collect_evaluation, show, write_results
from deitlt.engine.run_folder import RunFolder
from deitlt.engine.stage_config import Plain, plain
from deitlt.engine.trained import TrainedNetwork, load_trained
from deitlt.errors import DataError
from deitlt.metrics import Fusion, TokenAccuracy, fusions_for
from deitlt.modules import RAW
from deitlt.transforms import evaluation_transform


def main(config: DictConfig) -> None:
    """Evaluate one checkpoint; write metrics.json and the per-class picture, print the table."""
    run = RunFolder.of_job(config)
    run.refuse_if_used()
    trained = load_trained(
        config.checkpoint, config.stage, config.ema, config.accelerator, named_recipe(config), config.label_order
    )
    datamodule = open_data(config, trained.card)
    trained = trained.in_order_of(datamodule.info)
    owned = config.get("data") is None
    results: dict[str, Plain] = {trained.card.kind: {"networks": {RAW: measure(trained, datamodule, owned)}}}
    metrics = collect_evaluation(trained.card, datamodule, results, str(trained.path))
    if not trained.card.protocol and not config.ema and (experiment := chosen_recipe()) is not None:
        metrics["experiment"] = experiment  # a published file: the row of the table that its numbers belong beside
    write_results(metrics, results, run)
    show(metrics, run, Console())


def open_data(config: DictConfig, card: ModelCard) -> LongTailDataModule:
    """The checkpoint's own data, or those that were chosen, seen as the network wants to see them.

    Raises:
        DataError: if they cannot be read.
    """
    chosen = card.data if config.get("data") is None else plain(config.data)
    if config.data_root is not None:
        chosen = chosen | {"root": config.data_root}
    datamodule = open_card_data(
        chosen,
        image_size=card.image_size,
        evaluation=partial(evaluation_transform, crop_share=card.crop_share),
        eval_batch_size=config.batch_size,
        num_workers=config.num_workers,
    )
    datamodule.normalisation = card.normalisation
    try:
        datamodule.setup()
    except DataError as error:
        raise DataError(f"{str(error).rstrip('.')}; data that were moved: data_root=FOLDER.") from error
    return datamodule


def measure(trained: TrainedNetwork, datamodule: LongTailDataModule, owned: bool) -> dict[str, Any]:
    """Accuracies and per-class recalls of each answer on the test set; groups are those of the training data.

    Args:
        trained: the network.
        datamodule: the data.
        owned: whether they are those that the network was trained on, so that their validation split was held
            out from it, and fusions of the tokens may be fitted there.
    """
    info, answers_with = trained.card.info, getattr(trained.network, "tokens", ("cls",))
    tokens: tuple[str, ...] = ("cls",)
    fusions: dict[str, Fusion] = {}
    if "dist" in answers_with:
        held_out = datamodule.whole_val_dataloader() if owned else None
        tokens = ("cls", "dist", "avg")
        fusions = fusions_for(trained.answer, held_out, info.groups)
    accuracy = TokenAccuracy(info.num_classes, info.groups, tokens, fusions)
    for images, targets in datamodule.test_dataloader():
        accuracy.update(trained.answer(images), targets)
    return {"accuracy": accuracy.compute(), "per_class": accuracy.per_class()}
