"""Pictures and tables of a run in W&B."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from deitlt.tracking.failures import forgiving


@rank_zero_only
def log_picture(logger: WandbLogger, name: str, path: Path) -> None:
    """Log a picture's file under a name, such as 'pictures/views'."""
    with forgiving("a picture"):
        import wandb

        logger.experiment.log({name: wandb.Image(str(path))})


@rank_zero_only
def log_pictures(logger: WandbLogger, folder: Path, prefix: str) -> None:
    """Log every PNG of a folder, in one row, as PREFIX/STEM: 'pictures/analysis/rank' is analysis/rank.png.

    Args:
        logger: the stage's.
        folder: where the pictures lie; none need be there.
        prefix: such as 'pictures/analysis'.
    """
    with forgiving("pictures"):
        import wandb

        if pictures := {f"{prefix}/{path.stem}": wandb.Image(str(path)) for path in sorted(folder.glob("*.png"))}:
            logger.experiment.log(pictures)


@rank_zero_only
def log_table(logger: WandbLogger, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Log a table.

    Args:
        logger: the stage's.
        name: the table's, such as 'confusions'.
        rows: the first row's keys are the columns; None is an empty cell.
    """
    with forgiving(f"the table {name}"):
        import wandb

        columns: list[str | int] = list(rows[0]) if rows else []
        table = wandb.Table(columns=columns, data=[[row.get(str(column)) for column in columns] for row in rows])
        logger.experiment.log({name: table})


def log_per_class(logger: WandbLogger, rows: Sequence[Mapping[str, Any]]) -> None:
    """Log the table 'per_class'.

    Args:
        logger: the stage's.
        rows: one a class, such as {'class': 'cat', 'train images': 50, 'group': 'tail', 'CLS': 12.5}.
    """
    log_table(logger, "per_class", rows)
