"""What is logged of a stage: its loggers, and the tables, pictures and checkpoints that they get who can hold them."""

import shlex
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from deitlt.errors import Preempted
from deitlt.modules import RAW, ClassifierModule
from deitlt.tracking.artifacts import artifact_name, log_checkpoint
from deitlt.tracking.csv import AppendingCSVLogger
from deitlt.tracking.failures import forgiving
from deitlt.tracking.interface import Begin, StageLogger, StageNames, called
from deitlt.tracking.mlflow import StageMLFlowLogger, database, mlflow_logger, tracking_uri
from deitlt.tracking.tensorboard import TENSORBOARD, StageTensorBoardLogger, tensorboard_logger
from deitlt.tracking.wandb import StageWandbLogger, upload_hint, wandb_logger
from deitlt.types import DataInfo

MOST_PAIRS = 500  # of confused classes, of each token, in the table
Plain = Mapping[str, Any]
# To which a row may be logged again, which changes nothing.
TAKES_TWICE = (AppendingCSVLogger, StageTensorBoardLogger, StageMLFlowLogger)


def stage_loggers(names: StageNames, config: Plain, options: Plain, resumed_at: int | None) -> list[Logger]:
    """A stage's CSV file, and those loggers that are on.

    Args:
        names: the stage's.
        config: what the run was started with, resolved to plain containers.
        options: of the configuration's node logger, W&B's mode settled.
        resumed_at: the global step of the checkpoint that the stage goes on from; None: it begins.
    """
    csv = AppendingCSVLogger(names.folder)
    if resumed_at is not None:
        csv.keep_until(resumed_at)
    begin = Begin() if resumed_at is None else Begin(resumed_at, resumes=True)
    opened = open_loggers(names, config, options, names.folder.parent, begin)
    for logger in opened:
        if isinstance(logger, StageWandbLogger | StageMLFlowLogger) and isinstance(
            logger.version, str
        ):  # the first rank
            (names.folder / logger.run_id_file).write_text(logger.version)
    return [csv, *opened]


def open_loggers(names: StageNames, config: Plain, options: Plain, folder: Path, begin: Begin) -> list[Logger]:
    """The loggers beside the CSV file, with the runs of a stage that was recorded before.

    One that cannot be opened is warned about, and left out.

    Args:
        names: the stage's.
        config: what the run was started with, resolved to plain containers.
        options: of the configuration's node logger, W&B's mode settled.
        folder: where their files go, below their names.
        begin: where the stage is taken up.
    """
    loggers: list[Logger] = []
    if (wanted := options.get("wandb")) is not None:  # it has a run of no effect for the other ranks
        loggers.append(wandb_logger(names, config, wanted, folder))
    if rank_zero_only.rank == 0:  # type: ignore[attr-defined]
        if options.get("tensorboard") is not None:
            with forgiving("anything", StageTensorBoardLogger.program):
                loggers.append(tensorboard_logger(names, config, folder, begin))
        if (wanted := options.get("mlflow")) is not None:
            with forgiving("anything", StageMLFlowLogger.program):
                loggers.append(mlflow_logger(names, config, wanted, folder, begin))
    return loggers


@contextmanager
def finished(loggers: Sequence[Logger]) -> Iterator[None]:
    """Close the loggers' records at the end of what is inside, however it ends: as failed where it raises."""
    code = 1
    try:
        yield
        code = 0
    except Preempted:
        code = Preempted.CODE
        raise
    finally:
        _each(loggers, "the end of a run", lambda logger: logger.finish(code))


def wandb_runs(loggers: Collection[Logger]) -> list[WandbLogger]:
    """W&B's among a trainer's loggers."""
    return [logger for logger in loggers if isinstance(logger, WandbLogger)]


def holds_more(loggers: Collection[Logger]) -> bool:
    """Whether one of them holds pictures and tables."""
    return any(isinstance(logger, StageLogger) for logger in loggers)


def log_summary(loggers: Collection[Logger], values: Mapping[str, float]) -> None:
    """Give numbers on the stage as a whole to those that can hold them."""
    _each(loggers, "the summary", lambda logger: logger.add_summary(values))


def log_pictures(loggers: Collection[Logger], pictures: Mapping[str, Path]) -> None:
    """Give pictures' files to those that can hold them, by name, such as 'pictures/views'."""
    _each(loggers, "pictures", lambda logger: logger.add_pictures(pictures))


def pictures_in(folder: Path, prefix: str) -> dict[str, Path]:
    """Every PNG of a folder as PREFIX/STEM -> path; empty where there is no folder."""
    return {f"{prefix}/{path.stem}": path for path in sorted(folder.glob("*.png"))}


@rank_zero_only
def _each(loggers: Collection[Logger], what: str, give: Callable[[StageLogger], None]) -> None:
    for logger in loggers:
        if isinstance(logger, StageLogger):
            with forgiving(what, called(logger)):
                give(logger)


def hints(options: Plain, folder: Path) -> list[str]:
    """A line for a shell for each logger of the node `logger` whose records lie in a run's folder: what shows them."""
    lines = [upload_hint(folder)] if options.get("wandb") is not None else []
    if options.get("tensorboard") is not None:
        lines.append(f"tensorboard --logdir {shlex.quote(str(folder / TENSORBOARD))}")
    if (wanted := options.get("mlflow")) is not None and tracking_uri(wanted) is None:
        lines.append(f"mlflow ui --backend-store-uri {shlex.quote(database(folder))}")
    return [line for line in lines if line]


def log_findings(
    loggers: Collection[Logger], module: ClassifierModule, info: DataInfo, pictures: Mapping[str, Path]
) -> None:
    """Give what a stage found to those that can hold it: its summary, its tables by class, and pictures.

    Args:
        loggers: the stage's.
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
    log_summary(loggers, summary)
    _each(loggers, "the tables", lambda logger: logger.add_table("per_class", per_class_rows(recalls, info)))
    _each(loggers, "the tables", lambda logger: logger.add_table("confusions", confusion_rows(module)))
    log_pictures(loggers, pictures)


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
