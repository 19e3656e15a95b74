"""`deitlt evaluate`: a checkpoint's accuracies on a test set, by token and group."""

from functools import partial
from typing import Any

from omegaconf import DictConfig
from rich.console import Console

from deitlt.checkpoints import ModelCard
from deitlt.data import LongTailDataModule
from deitlt.errors import DataError
from deitlt.metrics import TokenAccuracy
from deitlt.modules import RAW
from deitlt.tasks.results import collect_evaluation, draw, show
from deitlt.tasks.run_folder import RunFolder, write_json
from deitlt.tasks.stage_config import Plain, plain
from deitlt.tasks.trained import TrainedNetwork, load_trained
from deitlt.views import evaluation_view

# What of a data set's configuration says which images a test set has.
DATA_KEYS = (
    *("name", "root", "download", "train_csv", "test_csv", "imbalance_factor", "imbalance_kind", "max_count"),
    *("val_fraction", "groups", "group_cuts", "split_seed", "on_broken", "exclude"),
)


def main(config: DictConfig) -> None:
    """Evaluate one checkpoint; write metrics.json and the per-class picture, print the table."""
    run = RunFolder.of_job(config)
    run.refuse_if_used()
    trained = load_trained(config.checkpoint, config.stage, config.ema, config.accelerator)
    datamodule = open_data(config, trained.card)
    results: dict[str, Plain] = {trained.card.kind: {"networks": {RAW: measure(trained, datamodule)}}}
    metrics = collect_evaluation(trained.card, datamodule, results, str(trained.path))
    draw(metrics, results, run)
    write_json(run.metrics, metrics)
    show(metrics, run, Console())


def open_data(config: DictConfig, card: ModelCard) -> LongTailDataModule:
    """The checkpoint's own data, or those that were chosen, seen as the network wants to see them.

    Raises:
        DataError: if the classes are not those that the network knows.
    """
    chosen = card.data if config.get("data") is None else plain(config.data)
    # Values alone are taken from a file, by name: nothing that it says is called or resolved.
    known = {key: value for key, value in chosen.items() if key in DATA_KEYS}
    if config.data_root is not None:
        known["root"] = config.data_root
    datamodule = LongTailDataModule(
        **known,
        image_size=card.image_size,
        evaluation=partial(evaluation_view, crop_share=card.crop_share),
        eval_batch_size=config.batch_size,
        num_workers=config.num_workers,
    )
    datamodule.normalisation = card.normalisation
    if datamodule.info.class_names != tuple(card.class_names):
        raise DataError(
            f"The data have the classes {_few(datamodule.info.class_names)}, but {config.checkpoint} knows "
            f"{_few(tuple(card.class_names))}; type data=CHOICE of data with the same classes."
        )
    return datamodule


def measure(trained: TrainedNetwork, datamodule: LongTailDataModule) -> dict[str, Any]:
    """Accuracies and per-class recalls of each token on the test set; groups are those of the training data."""
    info, answers_with = trained.card.info, getattr(trained.network, "tokens", ("cls",))
    tokens = ("cls", "dist", "avg") if "dist" in answers_with else ("cls",)
    accuracy = TokenAccuracy(info.num_classes, info.groups, tokens)
    for images, targets in datamodule.test_dataloader():
        accuracy.update(trained.answer(images), targets)
    return {"accuracy": accuracy.compute(), "per_class": accuracy.per_class()}


def _few(names: tuple[str, ...]) -> str:
    return f"{', '.join(names[:3])}, ... ({len(names)})" if len(names) > 3 else ", ".join(names)
