"""What is logged of a stage: its loggers, and the tables, pictures and checkpoints that its W&B run gets at its end."""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from deitlt.errors import Preempted
from deitlt.modules import RAW, ClassifierModule
from deitlt.tracking.artifacts import RECORD, artifact_name, log_checkpoint
from deitlt.tracking.csv import AppendingCSVLogger
from deitlt.tracking.failures import forgiving
from deitlt.tracking.wandb import finish, log_pictures, log_summary, log_table, wandb_logger
from deitlt.types import DataInfo

WANDB_ID = "wandb_run_id.txt"  # in a stage's folder: a resumed stage goes on with its run
MOST_PAIRS = 500  # of confused classes, of each token, in the table
Plain = Mapping[str, Any]


@dataclass(frozen=True)
class StageNames:
    """How a stage is called in W&B.

    stage: its name, which is the run's job_type. folder: where its files go; its parent is the run's. group: what
    the stages of a run, or all jobs of a sweep, have in common.
    """

    stage: str
    folder: Path
    group: str

    @property
    def run(self) -> str:
        """The run's name, which its stages share; of a sweep's job with the sweep's before it."""
        job = self.folder.parent.name
        return self.group if self.group.endswith(job) else f"{self.group}-{job}"


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
    logger = stage_run(names, config, options, names.folder.parent)
    _remember(logger, names.folder / WANDB_ID)
    return [csv, logger]


def stage_run(names: StageNames, config: Plain, options: Plain, folder: Path) -> WandbLogger:
    """Begin a stage's run in W&B, or go on with it: W&B's files go to FOLDER/wandb; else as `stage_loggers`."""
    known = names.folder / WANDB_ID
    return wandb_logger(
        project=options["project"],
        entity=options["entity"],
        group=names.group,
        job_type=names.stage,
        name=f"{names.run}-{names.stage}",
        folder=folder,
        config=config,
        tags=options["tags"],
        mode=options["mode"],
        run_id=known.read_text() if known.exists() else None,
    )


@rank_zero_only
def _remember(logger: WandbLogger, known: Path) -> None:
    if isinstance(logger.version, str):
        known.write_text(logger.version)


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
    results = module.results["test"]
    found = {network: part.accuracy for network, part in results.items()}
    log_summary(logger, final_names(found, module.names_tokens))
    recalls = {
        token if network == RAW else f"{network} {token}": values
        for network, part in results.items()
        for token, values in part.per_class.items()
    }
    with forgiving("the tables"):
        log_table(logger, "per_class", per_class_rows(recalls, info))
        log_table(logger, "confusions", confusion_rows(module))
    log_pictures(logger, pictures)


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
            reported.with_name(RECORD).write_text(json.dumps(record.as_plain(), indent=2))


def final_names(networks: Mapping[str, Mapping[str, Mapping[str, float]]], names_tokens: bool) -> dict[str, float]:
    """The final/... of a stage's summary: name -> percent.

    Args:
        networks: network -> token -> name -> percent; the raw weights go without their name.
        names_tokens: whether the stage has more tokens than one.
    """
    summary: dict[str, float] = {}
    for network, tokens in networks.items():
        prefix = "final" if network == RAW else f"final/{network}"
        for token, values in tokens.items():
            path = f"{prefix}/{token}" if names_tokens else prefix
            summary |= {f"{path}/{name}": value for name, value in values.items()}
    return summary


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
