"""What is logged of a stage: its loggers, and the tables, pictures and checkpoints that its W&B run gets at its end."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger, WandbLogger

from deitlt.errors import Preempted
from deitlt.modules import RAW, ClassifierModule
from deitlt.tracking.artifacts import artifact_name, log_checkpoint
from deitlt.tracking.csv import AppendingCSVLogger
from deitlt.tracking.failures import forgiving
from deitlt.tracking.wandb import RUN_ID, StageNames, finish, log_pictures, log_summary, log_table, wandb_logger
from deitlt.types import DataInfo

MOST_PAIRS = 500  # of confused classes, of each token, in the table
Plain = Mapping[str, Any]


def stage_loggers(names: StageNames, config: Plain, options: Plain | None, resumed_at: int | None) -> list[Logger]:
    """A stage's CSV file, and its run in W&B where that is on.

    Args:
        names: the stage's.
        config: what the run was started with, resolved to plain containers.
        options: of the configuration's logger.wandb, their mode settled; None: no W&B.
        resumed_at: the global step of the checkpoint that the stage goes on from; None: it begins.
    """
    csv = AppendingCSVLogger(names.folder)
    if resumed_at is not None:
        csv.keep_until(resumed_at)
    if options is None:
        return [csv]
    logger = wandb_logger(names, config, options, names.folder.parent)
    if isinstance(logger.version, str):  # on the first rank
        (names.folder / RUN_ID).write_text(logger.version)
    return [csv, logger]


@contextmanager
def finished(loggers: Sequence[Logger]) -> Iterator[None]:
    """Close W&B's run at the end of what is inside, however it ends: as failed where it raises."""
    code = 1
    try:
        yield
        code = 0
    except Preempted:
        code = Preempted.CODE
        raise
    finally:
        for logger in wandb_runs(loggers):
            finish(logger, code)


def wandb_runs(loggers: Collection[Logger]) -> list[WandbLogger]:
    """W&B's among a trainer's loggers."""
    return [logger for logger in loggers if isinstance(logger, WandbLogger)]


def log_findings(logger: WandbLogger, module: ClassifierModule, info: DataInfo, pictures: Mapping[str, Path]) -> None:
    """Give W&B what a stage found: its summary, its tables by class, and pictures; what fails is warned about.

    Args:
        logger: the stage's.
        module: its module, tested.
        info: the classes.
        pictures: name, such as 'pictures/per_class' -> file.
    """
    summary: dict[str, float] = {}
    recalls: dict[str, Sequence[float | None]] = {}
    for network, part in module.results["test"].items():
        prefix = "final" if network == RAW else f"final/{network}"
        for token, values in part.accuracy.items():
            path = f"{prefix}/{token}" if module.names_tokens else prefix
            summary |= {f"{path}/{name}": value for name, value in values.items()}
        recalls |= {t if network == RAW else f"{network} {t}": values for t, values in part.per_class.items()}
    log_summary(logger, summary)
    with forgiving("the tables"):
        log_table(logger, "per_class", per_class_rows(recalls, info))
        log_table(logger, "confusions", confusion_rows(module))
    log_pictures(logger, pictures)


def per_class_rows(recalls: Mapping[str, Sequence[float | None]], info: DataInfo) -> list[dict[str, Any]]:
    """One row a class: its name, training images, group, and each token's recall in percent.

    Args:
        recalls: column, such as 'dist' or 'ema dist' -> each class's recall, [C]; None where no image was tested.
        info: the classes.
    """
    group_of_class = {c: name for name, classes in info.groups.items() for c in classes}
    return [
        {
            "class": info.class_names[c],
            "train images": info.counts[c],
            "group": group_of_class.get(c, ""),
            **{column: values[c] for column, values in recalls.items()},
        }
        for c in range(info.num_classes)
    ]


def confusion_rows(module: ClassifierModule) -> list[dict[str, Any]]:
    """For each token the classes that are taken for another most often, with the number of images."""
    names, rows = module.info.class_names, []
    for token, pairs in module.confusions.items():
        triples = zip(pairs.truth.tolist(), pairs.answer.tolist(), pairs.images.tolist(), strict=True)
        wrong = sorted((triple for triple in triples if triple[0] != triple[1]), key=lambda triple: -triple[2])
        rows += [
            {"token": token, "class": names[truth], "taken for": names[answer], "images": images}
            for truth, answer, images in wrong[:MOST_PAIRS]
        ]
    return rows


def log_checkpoints(logger: WandbLogger, names: StageNames, recipe: str, reported: Path, metadata: Plain) -> None:
    """Log what a finished stage made: 'last', and 'best' where the protocol chose an epoch.

    The one that the run reports has the run's name as an alias, too, and is logged last, so that it is 'latest'.
    Beside it, artifact.json says as what it was logged, for the students that will learn from it.

    Args:
        logger: the stage's.
        names: the stage's.
        recipe: what the artifact is called after, such as 'cifar10_lt_if100': each run adds a version.
        reported: the checkpoint that was tested.
        metadata: plain values; its 'accuracy' is of the reported checkpoint alone.
    """
    name, last = artifact_name(recipe, names.stage), reported.with_name("last.ckpt")
    with forgiving("the checkpoints"):
        if last != reported and last.exists():
            common = {key: value for key, value in metadata.items() if key != "accuracy"}
            log_checkpoint(logger, last, name, [f"{names.run}-last", "last"], common)
        record = log_checkpoint(logger, reported, name, [names.run, reported.stem], metadata)
        if record is not None:
            record.write(reported.parent)
